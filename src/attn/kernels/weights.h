// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The row operation between attention's products: from a query's scores to the weights of its keys, and back. A row is
// gone through once, and its weights are written where the next product reads them: packed.
#pragma once

#include "attn/kernels/key_tiles.h"
#include "tensor/kernels/lanes.h"
#include "tensor/kernels/math.h"

namespace swarr {
namespace {

template <class Sum>
constexpr Sum kNothing = -std::numeric_limits<Sum>::infinity();

// A row of a block's scores: its part of tile after tile.
template <class T>
struct TileRow {
  T* first;
  std::int64_t step;
  T* operator[](std::int64_t tile) const { return first + tile * step; }
};
template <class T>
TileRow<T> RowOf(T* scores, ScoreSteps steps, std::int64_t r) {
  return {scores + r * steps.row, steps.tile};
}

// Sets the scores of a row over `tiles` to -infinity, and so their weights to 0, where the query does not see the key:
// between the sinks and the window, and behind the query.
template <class Sum>
void Mask(int q_pos, const VisibleKeys& tiles, AttentionSpec spec, TileRow<Sum> row) {
  const VisibleKeys sees = VisibleKeysOf(q_pos, spec);
  for (const KeyRange range : {tiles.sinks, tiles.recent}) {
    const auto hide = [&](int from, int to) {
      from = std::max(from, range.begin * kKeyTile), to = std::min(to, range.end * kKeyTile);
      for (int tile = from / kKeyTile; tile * kKeyTile < to; ++tile) {
        const int begin = tile * kKeyTile, end = std::min(to - begin, kKeyTile);
        Sum* scores = row[tile - range.begin];
        for (int j = std::max(from - begin, 0); j < end; ++j) scores[j] = kNothing<Sum>;
      }
    };
    hide(sees.sinks.end, sees.recent.begin);
    hide(sees.recent.end, range.end * kKeyTile);
    row.first = row[range.size()];
  }
}

// The learned sink of query head h. No sink is one of -infinity: it is never the largest score and weighs nothing.
template <class T>
Accumulator<T> SinkOf(const T* sinks, std::int64_t h) {
  return sinks ? Accumulator<T>(sinks[h]) : kNothing<Accumulator<T>>;
}

// The largest of a row's scores, times the scale, and of its sink.
template <class Sum>
Sum LargestScore(TileRow<Sum> row, std::int64_t tiles, Sum scale, Sum sink) {
  using Lanes = RowLanes<Sum>;
  Lanes most = Lanes::Lowest();
  for (std::int64_t i = 0; i < tiles; ++i) {
    for (int j = 0; j < kKeyTile; j += Lanes::kCount) most.TakeLargest(row[i] + j);
  }
  const Sum largest = most.Meet(Lanes::Larger) * scale;
  return largest < sink ? sink : largest;
}

// Calls f.operator()<To>() with the type of a packed element: T, or the sums' that bf16 is widened to.
template <class T, class F>
void WithPacked(const TileKernel<T>& kernel, const F& f) {
  if (kernel.packed_size == sizeof(T)) return f.template operator()<T>();
  f.template operator()<Accumulator<T>>();
}

// Packs a row's numbers of some tiles, rounded to T, from segment `from` on.
template <class To, class T, int kCount>
[[gnu::always_inline]] inline void PackRow(const Accumulator<T> (&x)[kCount], typename TileKernel<T>::PackedRow packed,
                                           std::int64_t from) {
  std::byte* to = packed.begin + from * packed.step;
  for (int j0 = 0; j0 < kCount; j0 += kSegment<T>, to += packed.step) {
    for (int j = 0; j < kSegment<T>; ++j) {
      reinterpret_cast<To*>(to)[j] = static_cast<To>(static_cast<T>(x[j0 + j]));
    }
  }
}

// Calls f.operator()<kTiles>(tile) for all tiles, as many together as ExpAll likes.
template <class Sum, class F>
[[gnu::always_inline]] inline void ForTiles(std::int64_t tiles, const F& f) {
  ForPieces<kTogether<Sum> / kKeyTile, 1>(0, tiles, f);
}

// Turns a row of scores into packed weights p_j = exp(scale s_j - largest), rounded to T. Returns the sum of the
// weights before they are rounded, in the order of LaneSum.
template <class To, class T, class Sum = Accumulator<T>>
Sum PackWeights(TileRow<Sum> row, std::int64_t tiles, Sum scale, Sum largest,
                typename TileKernel<T>::PackedRow packed) {
  RowLanes<Sum> sums = {};
  ForTiles<Sum>(tiles, [&]<int kTiles>(std::int64_t tile) {
    Sum weight[kTiles * kKeyTile];
    for (int i = 0; i < kTiles; ++i) {
      for (int j = 0; j < kKeyTile; ++j) weight[i * kKeyTile + j] = row[tile + i][j] * scale - largest;
    }
    ExpAll(weight);
    PackRow<To, T>(weight, packed, tile * kKeyTile / kSegment<T>);
    for (int j = 0; j < kTiles * kKeyTile; j += sums.kCount) {
      for (int lane = 0; lane < sums.kCount; ++lane) sums.lane[lane] += weight[j + lane];
    }
  });
  return sums.Sum();
}

// The backward of a row. Given its scores s_j and e_j = dout . v_j:
//   p_j = exp(scale s_j - lse),   ds_j = scale p_j (e_j - delta),
// rounded to T: p over s and ds over e if they have one type, and ds packed too.
template <class To, class T, class Sum = Accumulator<T>>
void PackWeightGradients(TileRow<Sum> s, TileRow<Sum> e, std::int64_t tiles, Sum scale, Sum lse, Sum delta,
                         TileRow<T> p, TileRow<T> ds, typename TileKernel<T>::PackedRow packed) {
  ForTiles<Sum>(tiles, [=]<int kTiles>(std::int64_t tile) {
    Sum weight[kTiles * kKeyTile], gradient[kTiles * kKeyTile];
    for (int i = 0; i < kTiles; ++i) {
      for (int j = 0; j < kKeyTile; ++j) weight[i * kKeyTile + j] = scale * s[tile + i][j] - lse;
    }
    ExpAll(weight);
    for (int i = 0; i < kTiles; ++i) {
      const Sum* w = weight + i * kKeyTile;
      for (int j = 0; j < kKeyTile; ++j) gradient[i * kKeyTile + j] = scale * w[j] * (e[tile + i][j] - delta);
      for (int j = 0; j < kKeyTile; ++j) p[tile + i][j] = static_cast<T>(w[j]);
      for (int j = 0; j < kKeyTile; ++j) ds[tile + i][j] = static_cast<T>(gradient[i * kKeyTile + j]);
    }
    PackRow<To, T>(gradient, packed, tile * kKeyTile / kSegment<T>);
  });
}

}  // namespace
}  // namespace swarr
