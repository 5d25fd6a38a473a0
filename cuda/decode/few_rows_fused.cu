// SPDX-License-Identifier: Apache-2.0
// A block of a model but for attention and residuals, in two launches (model/fused.h): products of few rows
// (few_rows.h) with the norm before them and what follows them. Values are rounded where the ops would store them.
#include <bit>

#include "cuda/attention/attention_tiles.h"
#include "cuda/decode/few_rows_launch.h"
#include "cuda/decode/short_fused.h"
#include "model/fused.h"

namespace swarr {
namespace {

constexpr int kRun = kPack<BFloat16>;
// What a thread computes at a time: few elements, since warps are idle otherwise and a long chain takes long.
constexpr int kPart = 4;
using Part = Pack<BFloat16, kPart>;

__device__ inline float Rounded(float x) { return static_cast<float>(BFloat16(x)); }

// One half of a panel's lines are gates, the other their units.
struct GatedLayer {
  static constexpr bool kNormed = true;
  static constexpr int kHalf = kPanel / 2;

  CUtensorMap gate, up;
  BFloat16* y;
  int units;

  __device__ static int Lines(int) { return kPanel; }
  template <class F>
  __device__ void ForBoxes(int panel, F&& f) const {
    f(gate, panel * kHalf, 0);
    f(up, panel * kHalf, kHalf);
  }
  template <class S>
  static constexpr std::size_t AsideBytes() {
    return 0;
  }
  template <class S>
  __device__ void FetchEarly(void*, int, int) const {}
  template <class S>
  __device__ void FetchLate(void*, int, int, int) const {}
  template <class S>
  __device__ void Store(float* sums, const void*, int tile, int row, int rows) const {
    constexpr int kParts = kHalf / kPart, kAcross = S::kGroups * kParts;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * kAcross; i += S::kThreads) {
      const int panel = i % kAcross / kParts, at = i % kParts * kPart, unit = (tile * S::kGroups + panel) * kHalf + at;
      if (unit >= units) continue;
      const float* from = sums + i / kAcross * S::kSumsStride + panel * kPanel + at;
      float gates[kPart], ups[kPart];
      LoadSums(gates, from);
      LoadSums(ups, from + kHalf);
#pragma unroll
      for (int j = 0; j < kPart; ++j) gates[j] = Gated(Rounded(gates[j]), Rounded(ups[j]));
      StoreRun(y + std::int64_t{row + i / kAcross} * units + unit, gates);
    }
  }
};

// A kind of head: its weights, with bias and norm or null.
struct Heads {
  CUtensorMap weight;
  const BFloat16 *bias, *norm;
};

// Columns are those of all heads: queries, then keys, then values. A tile has whole heads.
struct QkvLayer {
  static constexpr bool kNormed = true;

  Heads kinds[3];
  int H, G, D, log_D;
  float eps;
  BFloat16* q;
  BFloat16 *to_k, *to_v;
  SlotQueries<BFloat16> cache;
  const std::int32_t* positions;
  const float* table;

  // A head as one of its kind; kind is 3 behind the last.
  struct Head {
    int kind, index;
  };
  __device__ Head HeadOf(int head) const {
    if (head < H) return {0, head};
    if (head < H + G) return {1, head - H};
    return head < H + 2 * G ? Head{2, head - H - G} : Head{3, 0};
  }
  __device__ int Lines(int panel) const { return max(0, min(kPanel, (H + 2 * G) * D - panel * kPanel)); }
  // A box has a head, or half of one that is longer than a panel.
  template <class F>
  __device__ void ForBoxes(int panel, F&& f) const {
#pragma unroll 1
    for (int line = 0, lines = Lines(panel); line < lines; line += min(D, kPanel)) {
      const int column = panel * kPanel + line;
      const Head head = HeadOf(column >> log_D);
      f(kinds[head.kind].weight, head.index * D + (column & (D - 1)), line);
    }
  }

  // Of each row its angles, if they are staged, and where its keys go: the first head's tile, and the place in the
  // tile. Angles of long heads would take the room of weights, and are read when they are needed.
  struct Place {
    std::int64_t tile;
    int in_tile, position;
  };
  __host__ __device__ bool Staged() const { return D <= kPanel; }
  __host__ __device__ int StagedAngles() const { return Staged() ? D : 0; }
  template <class S>
  std::size_t AsideBytes() const {
    return S::kRows * (static_cast<std::size_t>(StagedAngles()) * sizeof(float) + sizeof(Place));
  }
  // Some positions are loaded together, before the copies that depend on them.
  template <class S>
  __device__ void FetchEarly(void* aside, int row, int rows) const {
    constexpr int kAtOnce = 4, kStride = S::kThreads * 4;
    auto* angles = static_cast<float*>(aside);
    auto* places = reinterpret_cast<Place*>(angles + S::kRows * StagedAngles());
    const int thread = static_cast<int>(threadIdx.x), end = Staged() ? rows << log_D : 0;
    int position = 0, slot = 0;
    if (thread < rows) {
      position = positions[row + thread];
      slot = cache.slots[row + thread];
    }
#pragma unroll 1
    for (int first = thread * 4; first < end; first += kStride * kAtOnce) {
      int at[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) at[j] = positions[row + (min(first + j * kStride, end - 1) >> log_D)];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int i = first + j * kStride;
        if (i < end) CopyAsync16(angles + i, table + std::int64_t{at[j]} * D + (i & (D - 1)));
      }
    }
    if (thread < rows) {
      places[thread] = {cache.TileOfSlot(slot, 0, position / kKeyTile), position % kKeyTile * D, position};
    }
  }
  template <class S>
  __device__ void FetchLate(void*, int, int, int) const {}
  template <class S>
  __device__ void Store(float* sums, const void* aside, int tile, int row, int rows) const {
    const auto* angles = static_cast<const float*>(aside);
    const int first_head = tile * S::kColumns >> log_D;
    const HeldAngles<S> held = HoldAngles<S>(angles, first_head, rows);
    if (!kinds[0].norm) {
      return StoreHeads<S>(angles, held, first_head, row, rows, [&](Head head, int r, int column, float(&run)[kPart]) {
        LoadRounded<S>(run, sums, head, r, column);
      });
    }
    auto* heads = reinterpret_cast<BFloat16*>(sums + S::kRows * S::kSumsStride);
    constexpr int kParts = S::kColumns / kPart;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * kParts; i += S::kThreads) {
      const int column = i % kParts * kPart;
      float run[kPart];
      LoadRounded<S>(run, sums, HeadOf(first_head + (column >> log_D)), i / kParts, column);
      StoreRun(heads + i / kParts * S::kColumns + column, run);
    }
    __syncthreads();
    NormHeads<S>(heads, first_head, rows);
    __syncthreads();
    StoreHeads<S>(angles, held, first_head, row, rows, [&](Head, int r, int column, float(&run)[kPart]) {
      LoadElements(run, heads + r * S::kColumns + column);
    });
  }

 private:
  __device__ static void LoadElements(float (&run)[kPart], const BFloat16* from) {
    const Part elements = *reinterpret_cast<const Part*>(from);
#pragma unroll
    for (int j = 0; j < kPart; ++j) run[j] = float(elements.at[j]);
  }
  // A run of what the linear layers would store.
  template <class S>
  __device__ void LoadRounded(float (&run)[kPart], const float* sums, Head head, int r, int column) const {
    LoadSums(run, sums + r * S::kSumsStride + column);
    if (head.kind < 3 && kinds[head.kind].bias) {
      AddRun(run, *reinterpret_cast<const Part*>(kinds[head.kind].bias + head.index * D + (column & (D - 1))));
    }
#pragma unroll
    for (float& x : run) x = Rounded(x);
  }
  template <class S>
  __device__ void NormHeads(BFloat16* heads, int first_head, int rows) const {
    constexpr int kAtOnce = 4;
    const int across = S::kColumns >> log_D;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) / kWarp; i / across * kAtOnce < rows; i += S::kWarps) {
      const Head head = HeadOf(first_head + i % across);
      if (head.kind >= 2) continue;
      BFloat16* from = heads + i / across * kAtOnce * S::kColumns + i % across * D;
      NormRowsInPlace<kAtOnce>(D, eps, kinds[head.kind].norm, [&](int j, int c) { return from + j * S::kColumns + c; });
    }
  }
  // A thread's runs of heads: it keeps to its columns, and takes every kStride-th row.
  template <class S>
  struct OwnRuns {
    static constexpr int kAcross = S::kColumns / (2 * kPart), kStride = S::kThreads / kAcross,
                         kTurns = (S::kRows + kStride - 1) / kStride;
    static_assert(S::kThreads % kAcross == 0);
    int half, part, at, first;

    __device__ OwnRuns(int D, int log_D) : half(D / 2), first(static_cast<int>(threadIdx.x) / kAcross) {
      const int own = static_cast<int>(threadIdx.x) % kAcross * kPart;
      part = own >> (log_D - 1);
      at = own & (half - 1);
    }
  };
  // The angles of these runs, loaded before they are wanted if they are not staged.
  template <class S>
  struct HeldAngles {
    float cosine[OwnRuns<S>::kTurns][kPart], sine[OwnRuns<S>::kTurns][kPart];
  };
  template <class S>
  __device__ const Place* PlacesBehind(const float* angles) const {
    return reinterpret_cast<const Place*>(angles + S::kRows * StagedAngles());
  }
  template <class S>
  __device__ HeldAngles<S> HoldAngles(const float* angles, int first_head, int rows) const {
    const OwnRuns<S> own(D, log_D);
    HeldAngles<S> held{};
    if (Staged() || HeadOf(first_head + own.part).kind >= 2) return held;
#pragma unroll
    for (int turn = 0; turn < OwnRuns<S>::kTurns; ++turn) {
      const int r = min(own.first + turn * OwnRuns<S>::kStride, rows - 1);
      const float* from = table + std::int64_t{PlacesBehind<S>(angles)[r].position} * D + own.at;
      LoadSums(held.cosine[turn], from);
      LoadSums(held.sine[turn], from + own.half);
    }
    return held;
  }
  // Turns queries and keys, and writes a run of each half of a head: load(head, row, column of the tile, run).
  template <class S, class F>
  __device__ void StoreHeads(const float* angles, const HeldAngles<S>& held, int first_head, int row, int rows,
                             F&& load) const {
    const OwnRuns<S> own(D, log_D);
    const Head head = HeadOf(first_head + own.part);
    if (head.kind == 3) return;
#pragma unroll
    for (int turn = 0; turn < OwnRuns<S>::kTurns; ++turn) {
      const int r = own.first + turn * OwnRuns<S>::kStride, column = own.part * D + own.at;
      if (r >= rows) return;
      float first[kPart], second[kPart];
      load(head, r, column, first);
      load(head, r, column + own.half, second);
      if (head.kind < 2 && Staged()) {
        float cosine[kPart], sine[kPart];
        LoadSums(cosine, angles + r * D + own.at);
        LoadSums(sine, angles + r * D + own.at + own.half);
        Turn(first, second, cosine, sine);
      } else if (head.kind < 2) {
        Turn(first, second, held.cosine[turn], held.sine[turn]);
      }
      BFloat16* to = PlaceOf(head, row + r, PlacesBehind<S>(angles)[r]) + own.at;
      StoreRun(to, first);
      StoreRun(to + own.half, second);
    }
  }
  __device__ static void Turn(float (&first)[kPart], float (&second)[kPart], const float (&cosine)[kPart],
                              const float (&sine)[kPart]) {
#pragma unroll
    for (int j = 0; j < kPart; ++j) {
      const TurnedPair<float> turned(first[j], second[j], cosine[j], sine[j]);
      // 0 +: as in rope.cu, which adds to a gradient.
      first[j] = 0.0f + turned.first;
      second[j] = 0.0f + turned.second;
    }
  }
  __device__ BFloat16* PlaceOf(Head head, std::int64_t n, Place place) const {
    if (head.kind == 0) return q + (n * H + head.index) * D;
    const std::int64_t tile = place.tile + head.index * cache.tiles;
    return head.kind == 1 ? to_k + tile * cache.k_tile + place.in_tile : to_v + tile * cache.v_tile + place.in_tile;
  }
};

const BFloat16* DataOf(const Tensor& t) { return t.empty() ? nullptr : t.data<BFloat16>(); }

}  // namespace

Tensor FusedGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up) {
  if (in.x.dtype() == DType::kF32) return ShortGated(ctx, in, gate, up);
  const std::int64_t units = gate.dim(0);
  if (!NormedRowsTake(ctx, in) || !RowsAligned<kRun>(units, gate.data<BFloat16>(), up.data<BFloat16>())) return {};
  const Tensor y = ctx.arena->New(DType::kBF16, {in.x.dim(0), units});
  const GatedLayer layer{MatrixOf(gate, GatedLayer::kHalf), MatrixOf(up, GatedLayer::kHalf), y.data<BFloat16>(),
                         static_cast<int>(units)};
  const std::int64_t lines = 2 * Blocks(units, GatedLayer::kHalf) * GatedLayer::kHalf;
  // Where most multiprocessors have one of the largest tiles, what these bring from the second-level cache decides.
  using SharedTile = FewShape<3, 64, 16, 2>;
  if (in.x.dim(0) > SharedTile::kRows && FewRowsFit<SharedTile>(ctx, layer, in.x.dim(1)) &&
      3 * RowBlocks<SharedTile>(in.x.dim(0)) * Blocks(lines, SharedTile::kColumns) > 2 * ctx.stream->multiprocessors) {
    LaunchFewRowsAs<SharedTile>(ctx, layer, RowsOf(in), lines);
    return y;
  }
  LaunchCheapestFewRows<FewShape<1, 8, 8>, FewShape<1, 16, 8>, FewShape<1, 32, 8>, FewShape<2, 32, 16>,
                        FewShape<2, 64, 16>, FewShape<3, 64, 16>>(ctx, layer, RowsOf(in), lines);
  return y;
}

Tensor FusedQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in, const QkvWeights& w,
                const QkvRows& rows) {
  if (in.x.dtype() == DType::kF32) return ShortQkv(ctx, cache, D, in, w, rows);
  if (!NormedRowsTake(ctx, in) || D % (2 * kRun) != 0 || !HeadsFit(D) ||
      !Aligned<kRun>(DataOf(w.q), DataOf(w.k), DataOf(w.v), DataOf(w.q_bias), DataOf(w.k_bias), DataOf(w.v_bias),
                     DataOf(w.q_norm), DataOf(w.k_norm))) {
    return {};
  }
  const std::int64_t H = w.q.dim(0) / D, G = w.k.dim(0) / D;
  const Tensor q = ctx.arena->New(DType::kBF16, {in.x.dim(0), H, D});
  const int lines = static_cast<int>(std::min<std::int64_t>(D, kPanel));
  const QkvLayer layer{.kinds = {{MatrixOf(w.q, lines), DataOf(w.q_bias), DataOf(w.q_norm)},
                                 {MatrixOf(w.k, lines), DataOf(w.k_bias), DataOf(w.k_norm)},
                                 {MatrixOf(w.v, lines), DataOf(w.v_bias), nullptr}},
                       .H = static_cast<int>(H),
                       .G = static_cast<int>(G),
                       .D = static_cast<int>(D),
                       .log_D = std::countr_zero(static_cast<std::uint64_t>(D)),
                       .eps = static_cast<float>(in.eps),
                       .q = q.data<BFloat16>(),
                       .to_k = cache.k().data<BFloat16>(),
                       .to_v = cache.v().data<BFloat16>(),
                       .cache = QueriesOfSlots<BFloat16>(q, cache, rows.slots),
                       .positions = rows.positions.data<std::int32_t>(),
                       .table = rows.table.data<float>()};
  const std::int64_t columns = (H + 2 * G) * D;
  // With many rows attention's blocks have much to fetch, and want the room that few large tiles leave; the largest if
  // it has room for all of its weights.
  constexpr std::int64_t kManyRows = 64;
  using LargeTile = FewShape<2, 32, 16>;
  using LargestTile = FewShape<3, 32, 12>;
  const bool large = D <= kPanel && q.dim(0) > kManyRows;
  if (large && FewRowsHoldWeights<LargestTile>(ctx, layer, in.x.dim(1))) {
    LaunchFewRowsAs<LargestTile>(ctx, layer, RowsOf(in), columns);
  } else if (large && FewRowsFit<LargeTile>(ctx, layer, in.x.dim(1))) {
    LaunchFewRowsAs<LargeTile>(ctx, layer, RowsOf(in), columns);
  } else if (D <= kPanel) {
    LaunchCheapestFewRows<FewShape<1, 8, 8>, FewShape<1, 16, 8>>(ctx, layer, RowsOf(in), columns);
  } else {
    LaunchCheapestFewRows<FewShape<2, 8>, FewShape<2, 32, 16>, FewShape<2, 64, 16>>(ctx, layer, RowsOf(in), columns);
  }
  return q;
}

}  // namespace swarr
