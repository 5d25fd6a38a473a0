// SPDX-License-Identifier: Apache-2.0
// What becomes of the sums of queries, keys and values in a product of few rows (few_rows.h): bias, norm of heads,
// rotary embedding, and keys and values to their places in the cache. Values are rounded where the ops would store
// them.
#pragma once

#include "cuda/attention/attention_tiles.h"
#include "cuda/decode/few_rows.h"

namespace swarr {
namespace {

constexpr int kRun = kPack<BFloat16>;
// What a thread computes at a time: few elements, since warps are idle otherwise and a long chain takes long.
constexpr int kPart = 4;
using Part = Pack<BFloat16, kPart>;

__device__ inline float Rounded(float x) { return static_cast<float>(BFloat16(x)); }

// A kind of head: its weights, with bias and norm or null.
struct Heads {
  CUtensorMap weight;
  const BFloat16 *bias, *norm;
};

// A warp's rows of a tile that is one head.
template <class S>
constexpr int kOwnRows = S::kRows > S::kWarps ? S::kRows / S::kWarps : 1;

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
  // tile. Angles of long heads would take the room of weights.
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
  // What a thread needs for the place of its row's keys. Loaded first of all, it is there when it is wanted.
  struct Early {
    int position, slot;
  };
  __device__ Early LoadEarly(int row, int rows) const {
    const int thread = static_cast<int>(threadIdx.x);
    return thread < rows ? Early{positions[row + thread], cache.slots[row + thread]} : Early{};
  }
  // Some positions are loaded together, before the copies that depend on them.
  template <class S>
  __device__ void FetchEarly(void* aside, int row, int rows, Early own) const {
    constexpr int kAtOnce = 4, kStride = S::kThreads * 4;
    auto* angles = static_cast<float*>(aside);
    auto* places = reinterpret_cast<Place*>(angles + S::kRows * StagedAngles());
    const int thread = static_cast<int>(threadIdx.x), end = Staged() ? rows << log_D : 0;
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
      places[thread] = {cache.TileOfSlot(own.slot, 0, own.position / kKeyTile), own.position % kKeyTile * D,
                        own.position};
    }
  }
  template <class S>
  __device__ void FetchLate(void*, int, int, int) const {}

  // A head of two panels is a tile. Of each of its warp's rows a lane has two neighbouring columns of either half,
  // which are turned together. It loads what these need while the product runs.
  static constexpr int kLongHead = 2 * kPanel;
  template <class S>
  struct LongHead {
    float2 cosine[kOwnRows<S>], sine[kOwnRows<S>];
    float norm[kPart];
  };
  template <class S>
  __device__ auto Hold(const void* aside, int tile, int rows) const {
    if constexpr (S::kColumns == kLongHead) {
      LongHead<S> held{};
      const int kind = HeadOf(tile).kind;
      if (Staged() || kind >= 2) return held;
      const auto* places = static_cast<const Place*>(aside);
#pragma unroll
      for (int j = 0; j < kOwnRows<S>; ++j) {
        const int r = min(FirstOwnRow<S>() + j, rows - 1);
        const float* from = table + std::int64_t{places[r].position} * D + OwnColumn();
        held.cosine[j] = *reinterpret_cast<const float2*>(from);
        held.sine[j] = *reinterpret_cast<const float2*>(from + kPanel);
      }
#pragma unroll
      for (int i = 0; i < kPart && kinds[kind].norm; ++i) held.norm[i] = float(kinds[kind].norm[ColumnOf(i)]);
      return held;
    } else {
      return Nothing{};
    }
  }

  template <class S, class Held>
  __device__ void Store(float* sums, const void* aside, int tile, int row, int rows, const Held& held) const {
    if constexpr (S::kColumns == kLongHead) {
      if (!Staged()) return StoreLongHead<S>(sums, static_cast<const Place*>(aside), tile, row, rows, held);
    }
    const auto* angles = static_cast<const float*>(aside);
    const int first_head = tile * S::kColumns >> log_D;
    if (!kinds[0].norm) {
      return StoreHeads<S>(angles, first_head, row, rows, [&](Head head, int r, int column, float(&run)[kPart]) {
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
    StoreHeads<S>(angles, first_head, row, rows, [&](Head, int r, int column, float(&run)[kPart]) {
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
  template <class S>
  __device__ const Place* PlacesBehind(const float* angles) const {
    return reinterpret_cast<const Place*>(angles + S::kRows * StagedAngles());
  }
  // Turns queries and keys, and writes a run of each half of a head: load(head, row, column of the tile, run). A thread
  // keeps to its columns, and takes every kStride-th row.
  template <class S, class F>
  __device__ void StoreHeads(const float* angles, int first_head, int row, int rows, F&& load) const {
    constexpr int kAcross = S::kColumns / (2 * kPart), kStride = S::kThreads / kAcross,
                  kTurns = (S::kRows + kStride - 1) / kStride;
    static_assert(S::kThreads % kAcross == 0);
    const int half = D / 2, own = static_cast<int>(threadIdx.x) % kAcross * kPart, part = own >> (log_D - 1),
              at = own & (half - 1);
    const Head head = HeadOf(first_head + part);
    if (head.kind == 3) return;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int r = static_cast<int>(threadIdx.x) / kAcross + turn * kStride, column = part * D + at;
      if (r >= rows) return;
      float first[kPart], second[kPart];
      load(head, r, column, first);
      load(head, r, column + half, second);
      if (head.kind < 2) {
        float cosine[kPart], sine[kPart];
        LoadSums(cosine, angles + r * D + at);
        LoadSums(sine, angles + r * D + at + half);
        Turn(first, second, cosine, sine);
      }
      BFloat16* to = PlaceOf(head, row + r, PlacesBehind<S>(angles)[r]) + at;
      StoreRun(to, first);
      StoreRun(to + half, second);
    }
  }
  template <int k>
  __device__ static void Turn(float (&first)[k], float (&second)[k], const float (&cosine)[k], const float (&sine)[k]) {
#pragma unroll
    for (int j = 0; j < k; ++j) {
      const TurnedPair<float> turned(first[j], second[j], cosine[j], sine[j]);
      // 0 +: as in rope.cu, which adds to a gradient.
      first[j] = 0.0f + turned.first;
      second[j] = 0.0f + turned.second;
    }
  }

  template <class S>
  __device__ static int FirstOwnRow() {
    return static_cast<int>(threadIdx.x) / kWarp * kOwnRows<S>;
  }
  __device__ static int OwnColumn() { return static_cast<int>(threadIdx.x) % kWarp * 2; }
  // A lane's part of a row: two columns of the first half, and two of the second.
  using OwnPart = float[kPart];
  __device__ static int ColumnOf(int i) { return i / 2 * kPanel + OwnColumn() + i % 2; }

  template <class S>
  __device__ void StoreLongHead(const float* sums, const Place* places, int tile, int row, int rows,
                                const LongHead<S>& held) const {
    constexpr int kOwn = kOwnRows<S>;
    static_assert(kOwn * S::kWarps == S::kRows);
    const Head head = HeadOf(tile);
    if (head.kind == 3) return;
    const Heads& kind = kinds[head.kind];
    const int first = FirstOwnRow<S>();
    OwnPart x[kOwn];
    float bias[kPart] = {};
#pragma unroll
    for (int i = 0; i < kPart && kind.bias; ++i) bias[i] = float(kind.bias[head.index * D + ColumnOf(i)]);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      LoadHalves(x[j], sums + (first + j) * S::kSumsStride + OwnColumn());
#pragma unroll
      for (int i = 0; i < kPart; ++i) x[j][i] = Rounded(kind.bias ? x[j][i] + bias[i] : x[j][i]);
    }
    if (kind.norm) NormOwn(x, held.norm);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      if (head.kind < 2) TurnOwn(x[j], held.cosine[j], held.sine[j]);
      if (first + j >= rows) return;
      BFloat16* to = PlaceOf(head, row + first + j, places[first + j]) + OwnColumn();
      *reinterpret_cast<std::uint32_t*>(to) = RoundPair(x[j][0], x[j][1]);
      *reinterpret_cast<std::uint32_t*>(to + kPanel) = RoundPair(x[j][2], x[j][3]);
    }
  }
  __device__ static void LoadHalves(OwnPart& x, const float* from) {
    const float2 low = *reinterpret_cast<const float2*>(from), high = *reinterpret_cast<const float2*>(from + kPanel);
    x[0] = low.x, x[1] = low.y, x[2] = high.x, x[3] = high.y;
  }
  // Norms a warp's rows of a head, with the bits of rmsnorm.cu: a lane adds its squares in the order of the columns.
  template <int kOwn>
  __device__ void NormOwn(OwnPart (&x)[kOwn], const float (&norm)[kPart]) const {
    float r[kOwn] = {};
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
#pragma unroll
      for (int j = 0; j < kOwn; ++j) r[j] += x[j][i] * x[j][i];
    }
    const float inverse = InverseRms(SumOfLanesRow(r), std::int64_t{D}, eps);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const float of_row = __shfl_sync(0xffffffffu, inverse, j * (kWarp / kOwn));
#pragma unroll
      for (int i = 0; i < kPart; ++i) x[j][i] = Rounded(Normed(x[j][i], of_row, norm[i]));
    }
  }
  __device__ static void TurnOwn(OwnPart& x, float2 cosine, float2 sine) {
    float first[kPart / 2] = {x[0], x[1]}, second[kPart / 2] = {x[2], x[3]};
    Turn(first, second, {cosine.x, cosine.y}, {sine.x, sine.y});
    x[0] = first[0], x[1] = first[1], x[2] = second[0], x[3] = second[1];
  }
  __device__ BFloat16* PlaceOf(Head head, std::int64_t n, Place place) const {
    if (head.kind == 0) return q + (n * H + head.index) * D;
    const std::int64_t tile = place.tile + head.index * cache.tiles;
    return head.kind == 1 ? to_k + tile * cache.k_tile + place.in_tile : to_v + tile * cache.v_tile + place.in_tile;
  }
};

}  // namespace
}  // namespace swarr
