// SPDX-License-Identifier: Apache-2.0
// A block of a model but for attention and residuals, in two launches (model/fused.h): products of few rows
// (few_rows.h) with the norm before them and what follows them. Values are rounded where the ops would store them.
#include <cmath>

#include "cuda/attention/attention_tiles.h"
#include "cuda/decode/few_rows_launch.h"
#include "cuda/decode/short_fused.h"
#include "model/fused.h"

namespace swarr {
namespace {

constexpr int kRun = kPack<BFloat16>;
using Run = Pack<BFloat16, kRun>;

__device__ inline float Rounded(float x) { return static_cast<float>(BFloat16(x)); }

// One half of the columns of a tile are gates, the other their units.
struct GatedLayer {
  const BFloat16 *gate, *up;
  BFloat16* y;
  int units, depth;

  template <class S>
  __device__ const BFloat16* WeightRow(int tile, int column) const {
    constexpr int kHalf = S::kColumns / 2;
    const int unit = tile * kHalf + column % kHalf;
    return unit < units ? (column < kHalf ? gate : up) + std::int64_t{unit} * depth : nullptr;
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
    constexpr int kHalf = S::kColumns / 2, kRuns = kHalf / kRun;
    for (int i = static_cast<int>(threadIdx.x); i < rows * kRuns; i += S::kThreads) {
      const int unit = tile * kHalf + i % kRuns * kRun;
      if (unit >= units) continue;
      const float* from = sums + i / kRuns * S::kSumsStride + i % kRuns * kRun;
      float gates[kRun], ups[kRun];
      LoadSums(gates, from);
      LoadSums(ups, from + kHalf);
      Run out;
#pragma unroll
      for (int j = 0; j < kRun; ++j) out.at[j] = static_cast<BFloat16>(Gated(Rounded(gates[j]), Rounded(ups[j])));
      *reinterpret_cast<Run*>(y + std::int64_t{row + i / kRuns} * units + unit) = out;
    }
  }
};

// A kind of head: its weights, with bias and norm or null.
struct Heads {
  const BFloat16 *weight, *bias, *norm;
};

// Columns are those of all heads: queries, then keys, then values. A tile has whole heads.
struct QkvLayer {
  Heads kinds[3];
  int H, G, D, depth;
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
  template <class S>
  __device__ const BFloat16* WeightRow(int tile, int column) const {
    const int at = tile * S::kColumns + column;
    const Head head = HeadOf(at / D);
    return head.kind < 3 ? kinds[head.kind].weight + std::int64_t{head.index * D + at % D} * depth : nullptr;
  }

  // Of each row its angles, and where it stands.
  struct Place {
    int position, slot;
  };
  template <class S>
  std::size_t AsideBytes() const {
    return S::kRows * (static_cast<std::size_t>(D) * sizeof(float) + sizeof(Place));
  }
  template <class S>
  __device__ void FetchEarly(void* aside, int row, int rows) const {
    auto* angles = static_cast<float*>(aside);
    auto* places = reinterpret_cast<Place*>(angles + S::kRows * D);
    const int thread = static_cast<int>(threadIdx.x), runs = D / 4;
    if (thread < rows) places[thread] = {positions[row + thread], cache.slots[row + thread]};
    for (int i = thread; i < rows * runs; i += S::kThreads) {
      CopyAsync16(angles + i * 4, table + std::int64_t{positions[row + i / runs]} * D + i % runs * 4);
    }
  }
  template <class S>
  __device__ void FetchLate(void*, int, int, int) const {}
  template <class S>
  __device__ void Store(float* sums, const void* aside, int tile, int row, int rows) const {
    const auto* angles = static_cast<const float*>(aside);
    const int first_head = tile * S::kColumns / D;
    if (!kinds[0].norm) {
      return StoreHeads<S>(angles, first_head, row, rows,
                           [&](Head head, int r, int column) { return RoundedRun<S>(sums, head, r, column); });
    }
    auto* heads = reinterpret_cast<BFloat16*>(sums + S::kRows * S::kSumsStride);
    constexpr int kRuns = S::kColumns / kRun;
    for (int i = static_cast<int>(threadIdx.x); i < rows * kRuns; i += S::kThreads) {
      const int column = i % kRuns * kRun;
      *reinterpret_cast<Run*>(heads + i / kRuns * S::kColumns + column) =
          RoundedRun<S>(sums, HeadOf(first_head + column / D), i / kRuns, column);
    }
    __syncthreads();
    NormHeads<S>(heads, first_head, rows);
    __syncthreads();
    StoreHeads<S>(angles, first_head, row, rows, [&](Head, int r, int column) {
      return *reinterpret_cast<const Run*>(heads + r * S::kColumns + column);
    });
  }

 private:
  // A run of what the linear layers would store.
  template <class S>
  __device__ Run RoundedRun(const float* sums, Head head, int r, int column) const {
    float run[kRun];
    LoadSums(run, sums + r * S::kSumsStride + column);
    if (head.kind < 3 && kinds[head.kind].bias) {
      AddRun(run, *reinterpret_cast<const Run*>(kinds[head.kind].bias + head.index * D + column % D));
    }
    Run rounded;
    StoreRun(rounded.at, run);
    return rounded;
  }
  template <class S>
  __device__ void NormHeads(BFloat16* heads, int first_head, int rows) const {
    constexpr int kAtOnce = 4, kWarps = S::kThreads / kWarp;
    const int across = S::kColumns / D;
    for (int i = static_cast<int>(threadIdx.x) / kWarp; i / across * kAtOnce < rows; i += kWarps) {
      const Head head = HeadOf(first_head + i % across);
      if (head.kind >= 2) continue;
      BFloat16* from = heads + i / across * kAtOnce * S::kColumns + i % across * D;
      NormRowsInPlace<kAtOnce>(D, eps, kinds[head.kind].norm, [&](int j, int c) { return from + j * S::kColumns + c; });
    }
  }
  // Turns queries and keys, and writes a run of 8 of each half of a head: run_of(head, row, column of the tile). A
  // thread keeps to its columns.
  template <class S, class F>
  __device__ void StoreHeads(const float* angles, int first_head, int row, int rows, F&& run_of) const {
    constexpr int kAcross = S::kColumns / (2 * kRun);
    static_assert(S::kThreads % kAcross == 0);
    const auto* places = reinterpret_cast<const Place*>(angles + S::kRows * D);
    const int half = D / 2, runs = half / kRun, own = static_cast<int>(threadIdx.x) % kAcross, part = own / runs,
              at = own % runs * kRun;
    const Head head = HeadOf(first_head + part);
    if (head.kind == 3) return;
#pragma unroll 1
    for (int r = static_cast<int>(threadIdx.x) / kAcross; r < rows; r += S::kThreads / kAcross) {
      Run first = run_of(head, r, part * D + at), second = run_of(head, r, part * D + at + half);
      if (head.kind < 2) Turn(first, second, angles + r * D + at, half);
      BFloat16* to = PlaceOf(head, row + r, places[r]) + at;
      *reinterpret_cast<Run*>(to) = first;
      *reinterpret_cast<Run*>(to + half) = second;
    }
  }
  __device__ static void Turn(Run& first, Run& second, const float* angles, int half) {
    float cosine[kRun], sine[kRun];
    LoadSums(cosine, angles);
    LoadSums(sine, angles + half);
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      const TurnedPair<float> turned(float(first.at[j]), float(second.at[j]), cosine[j], sine[j]);
      // 0 +: as in rope.cu, which adds to a gradient.
      first.at[j] = static_cast<BFloat16>(0.0f + turned.first);
      second.at[j] = static_cast<BFloat16>(0.0f + turned.second);
    }
  }
  __device__ BFloat16* PlaceOf(Head head, std::int64_t n, Place place) const {
    if (head.kind == 0) return q + (n * H + head.index) * D;
    const std::int64_t tile = cache.TileOfSlot(place.slot, head.index, place.position / kKeyTile),
                       line = place.position % kKeyTile * D;
    return head.kind == 1 ? to_k + tile * cache.k_tile + line : to_v + tile * cache.v_tile + line;
  }
};

FewRows RowsOf(const NormedRows& in) {
  return {.x = in.x.data<BFloat16>(),
          .rows = static_cast<int>(in.x.dim(0)),
          .depth = static_cast<int>(in.x.dim(1)),
          .norm = in.weight.data<BFloat16>(),
          .eps = static_cast<float>(in.eps)};
}
bool Takes(const Context& ctx, const NormedRows& in) {
  const std::int64_t N = in.x.dim(0);
  return ctx.stream && ctx.gemm == GemmKind::kOwn && !ctx.trace_non_finite && in.x.dtype() == DType::kBF16 && N > 0 &&
         N <= kMostFewRows && FewRowsFit(ctx, in.x.dim(1)) &&
         RowsAligned<kRun>(in.x.dim(1), in.x.data<BFloat16>(), in.weight.data<BFloat16>());
}
const BFloat16* DataOf(const Tensor& t) { return t.empty() ? nullptr : t.data<BFloat16>(); }

}  // namespace

Tensor FusedGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up) {
  if (in.x.dtype() == DType::kF32) return ShortGated(ctx, in, gate, up);
  const std::int64_t units = gate.dim(0);
  if (!Takes(ctx, in) || !RowsAligned<kRun>(units, gate.data<BFloat16>(), up.data<BFloat16>())) return {};
  const Tensor y = ctx.arena->New(DType::kBF16, {in.x.dim(0), units});
  const GatedLayer layer{gate.data<BFloat16>(), up.data<BFloat16>(), y.data<BFloat16>(), static_cast<int>(units),
                         static_cast<int>(in.x.dim(1))};
  LaunchFewRows(ctx, layer, RowsOf(in), 2 * units);
  return y;
}

Tensor FusedQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in, const QkvWeights& w,
                const QkvRows& rows) {
  if (in.x.dtype() == DType::kF32) return ShortQkv(ctx, cache, D, in, w, rows);
  if (!Takes(ctx, in) || D % (2 * kRun) != 0 || !HeadsFit(D) ||
      !Aligned<kRun>(DataOf(w.q), DataOf(w.k), DataOf(w.v), DataOf(w.q_bias), DataOf(w.k_bias), DataOf(w.v_bias),
                     DataOf(w.q_norm), DataOf(w.k_norm))) {
    return {};
  }
  const std::int64_t H = w.q.dim(0) / D, G = w.k.dim(0) / D;
  const Tensor q = ctx.arena->New(DType::kBF16, {in.x.dim(0), H, D});
  const QkvLayer layer{.kinds = {{DataOf(w.q), DataOf(w.q_bias), DataOf(w.q_norm)},
                                 {DataOf(w.k), DataOf(w.k_bias), DataOf(w.k_norm)},
                                 {DataOf(w.v), DataOf(w.v_bias), nullptr}},
                       .H = static_cast<int>(H),
                       .G = static_cast<int>(G),
                       .D = static_cast<int>(D),
                       .depth = static_cast<int>(in.x.dim(1)),
                       .eps = static_cast<float>(in.eps),
                       .q = q.data<BFloat16>(),
                       .to_k = cache.k().data<BFloat16>(),
                       .to_v = cache.v().data<BFloat16>(),
                       .cache = QueriesOfSlots<BFloat16>(q, cache, rows.slots),
                       .positions = rows.positions.data<std::int32_t>(),
                       .table = rows.table.data<float>()};
  LaunchFewRowsOfHeads(ctx, layer, RowsOf(in), (H + 2 * G) * D, D);
  return q;
}

}  // namespace swarr
