// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The row operation between attention's products: from a query's scores to the weights of its keys, and back. A row is
// gone through once, and its weights are written where the next product reads them: packed.
#pragma once

#include "attn/kernels/key_tiles.h"
#include "tensor/kernels/lanes.h"
#include "tensor/kernels/math.h"
#include "tensor/kernels/vectors.h"

namespace swarr {
namespace {

template <class Sum>
constexpr Sum kNothing = -std::numeric_limits<Sum>::infinity();

// Sets the scores of row r for keys [from, to) to -infinity, and so their weights to 0.
template <class T, class Sum = Accumulator<T>>
void Hide(Sum* scores, ScoreSteps steps, std::int64_t r, int from, int to) {
  for (int key = from / kUnit<T> * kUnit<T>; key < to; key += kUnit<T>) {
    Sum* unit = scores + steps.At(r, key);
    const int begin = from - key, end = to - key;
    for (int j = 0; j < kUnit<T>; ++j) unit[j] = j >= begin && j < end ? kNothing<Sum> : unit[j];
  }
}

// The same of what the query does not see in these units: between the sinks and the window, and behind the query.
template <class T, class Sum = Accumulator<T>>
void Mask(const SeenKeys& seen, const VisibleKeys& units, Sum* scores, ScoreSteps steps, std::int64_t r) {
  Hide<T>(scores, steps, r, seen.sinks, std::min(units.sinks.end * kUnit<T>, seen.begin));
  Hide<T>(scores, steps, r, units.recent.begin * kUnit<T>, seen.begin);
  Hide<T>(scores, steps, r, seen.end, units.recent.end * kUnit<T>);
}

// The learned sink of query head h. No sink is one of -infinity: it is never the largest score and weighs nothing.
template <class T>
Accumulator<T> SinkOf(const T* sinks, std::int64_t h) {
  return sinks ? Accumulator<T>(sinks[h]) : kNothing<Accumulator<T>>;
}

// Calls f.operator()<To>() with the type of a packed element: T, or the sums' that bf16 is widened to.
template <class T, class F>
void WithPacked(const TileKernel<T>& kernel, const F& f) {
  if (kernel.packed_size == sizeof(T)) return f.template operator()<T>();
  f.template operator()<Accumulator<T>>();
}

// Vectors of sums that hold the keys of a unit.
template <class T>
constexpr int kUnitVectors = kUnit<T> / kLanes<Accumulator<T>>;

// Rows that are weighed together, the same unit of each, or more units of fewer rows. They make as many vectors as find
// room in registers, since the steps of one exponential wait for one another. Rows differ least in what they see.
template <class T>
constexpr int kRowsTogether = kVectorBytes < 64      ? std::max(1, 4 / kUnitVectors<T>)
                              : kUnitVectors<T> == 1 ? 6
                                                     : 4;

// Calls f.operator()<kRows>(r, units) for a block's rows, of one tile of the kernel's each; `units` are those that the
// rows of this tile see.
template <class T, class F>
void ForRowsTogether(const TileKernel<T>& kernel, std::int64_t rows, const BlockSight& sight, const F& f) {
  for (std::int64_t i = 0; i < rows; i += kernel.rows) {
    const std::int64_t height = std::min<std::int64_t>(kernel.rows, rows - i);
    const VisibleKeys units = sight.template Units<T>(i, height);
    ForPieces<kRowsTogether<T>, 1>(i, i + height,
                                   [&]<int kRows>(std::int64_t r) { f.template operator()<kRows>(r, units); });
  }
}

// Calls f.operator()<kUnits>(unit) for all units, as many together as go with kRows rows.
template <class T, int kRows, class F>
[[gnu::always_inline]] inline void ForUnits(const VisibleKeys& units, const F& f) {
  for (const KeyRange range : {units.sinks, units.recent}) {
    ForPieces<std::max(1, kRowsTogether<T> / kRows), 1>(range.begin, range.end, f);
  }
}

// The largest score of each of kRows rows from r on.
template <class T, int kRows, class Sum = Accumulator<T>>
void LargestScores(const Sum* scores, ScoreSteps steps, std::int64_t r, const VisibleKeys& units,
                   Sum (&largest)[kRows]) {
  LaneVectors<Sum> most[kRows];
  for (auto& row : most) row.Fill(kNothing<Sum>);
  for (const KeyRange range : {units.sinks, units.recent}) {
    for (std::int64_t key = range.begin * kUnit<T>; key < range.end * kUnit<T>; key += RowLanes<Sum>::kCount) {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) most[i].TakeLargest(scores + steps.At(r + i, key));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) largest[i] = most[i].Lanes().Meet(RowLanes<Sum>::Larger);
}

// x = exp(scale s - less) of some units of rows from r on: units of a row one after another, and row after row.
template <class T, int kRows, int kUnits, class Sum>
[[gnu::always_inline]] inline void Weigh(const Sum* scores, ScoreSteps steps, std::int64_t r, std::int64_t unit,
                                         Sum scale, const Sum (&less)[kRows],
                                         Vector<Sum> (&x)[kRows * kUnits * kUnitVectors<T>]) {
  Vector<Sum>* to = x;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int u = 0; u < kUnits; ++u) {
      const Sum* from = scores + steps.At(r + i, (unit + u) * kUnit<T>);
#pragma GCC unroll 16
      for (int v = 0; v < kUnitVectors<T>; ++v) *to++ = Load(from + v * kLanes<Sum>) * scale - less[i];
    }
  }
  ExpNotAbove<Sum>(x);
}

// Writes a unit, rounded to T, as numbers of type To.
template <class T, class To>
[[gnu::always_inline]] inline void Write(const Vector<Accumulator<T>>* x, To* to) {
  using Sum = Accumulator<T>;
  if constexpr (std::is_same_v<T, Sum>) {
#pragma GCC unroll 16
    for (int v = 0; v < kUnitVectors<T>; ++v) Store(x[v], to + v * kLanes<Sum>);
  } else {
    Sum sums[kUnit<T>];
#pragma GCC unroll 16
    for (int v = 0; v < kUnitVectors<T>; ++v) Store(x[v], sums + v * kLanes<Sum>);
    for (int j = 0; j < kUnit<T>; ++j) to[j] = static_cast<To>(static_cast<T>(sums[j]));
  }
}

// Where unit `unit` of row i goes, counted from the row that `packed` is.
template <class To, class T>
[[gnu::always_inline]] inline To* PackedUnit(typename TileKernel<T>::PackedRow packed, int i, std::int64_t unit) {
  return reinterpret_cast<To*>(packed.begin + unit * packed.step) + i * kUnit<T>;
}

// Turns scores of kRows rows from r on into packed weights p_j = exp(scale s_j - largest), rounded to T. Returns the
// sums of the weights before they are rounded, in the order of LaneSum.
template <class To, class T, int kRows, class Sum = Accumulator<T>>
void PackWeights(const Sum* scores, ScoreSteps steps, std::int64_t r, const VisibleKeys& units, Sum scale,
                 const Sum (&largest)[kRows], typename TileKernel<T>::PackedRow packed, Sum (&sums)[kRows]) {
  LaneVectors<Sum> lanes[kRows] = {};
  ForUnits<T, kRows>(
      units, [&]<int kUnits>(std::int64_t unit) __attribute__((always_inline)) {
        Vector<Sum> weight[kRows * kUnits * kUnitVectors<T>];
        Weigh<T, kRows, kUnits>(scores, steps, r, unit, scale, largest, weight);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
          for (int u = 0; u < kUnits; ++u) {
            const Vector<Sum>* from = weight + (i * kUnits + u) * kUnitVectors<T>;
            Write<T>(from, PackedUnit<To, T>(packed, i, unit + u));
            lanes[i].template Add<kUnitVectors<T>>(from);
          }
        }
      });
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) sums[i] = lanes[i].Lanes().Sum();
}

// Zeros in the other units of row r, of `keys` in all.
template <class T>
void Clear(const VisibleKeys& units, std::int64_t keys, T* row, ScoreSteps steps, std::int64_t r) {
  const auto clear = [&](std::int64_t from, std::int64_t to) {
    for (; from < to; ++from) std::fill_n(row + steps.At(r, from * kUnit<T>), kUnit<T>, T());
  };
  clear(units.sinks.end, units.recent.begin);
  clear(units.recent.end, keys / kUnit<T>);
}

// The backward of kRows rows from r on. Given scores s_j and e_j = dout . v_j:
//   p_j = exp(scale s_j - lse),   ds_j = scale p_j (e_j - delta),
// rounded to T: p over s and ds over e if they have one type, and ds packed too.
template <class To, class T, int kRows, class Sum = Accumulator<T>>
void PackWeightGradients(const Sum* s, const Sum* e, ScoreSteps steps, std::int64_t r, const VisibleKeys& units,
                         Sum scale, const Sum (&lse)[kRows], const Sum* delta, T* p, T* ds,
                         typename TileKernel<T>::PackedRow packed) {
  constexpr int kVectors = kUnitVectors<T>;
  ForUnits<T, kRows>(
      units, [&]<int kUnits>(std::int64_t unit) __attribute__((always_inline)) {
        Vector<Sum> weight[kRows * kUnits * kVectors];
        Weigh<T, kRows, kUnits>(s, steps, r, unit, scale, lse, weight);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
          for (int u = 0; u < kUnits; ++u) {
            const std::int64_t at = steps.At(r + i, (unit + u) * kUnit<T>);
            const Vector<Sum>* w = weight + (i * kUnits + u) * kVectors;
            Vector<Sum> gradient[kVectors];
#pragma GCC unroll 16
            for (int v = 0; v < kVectors; ++v) {
              gradient[v] = scale * w[v] * (Load(e + at + v * kLanes<Sum>) - delta[r + i]);
            }
            Write<T>(w, p + at);
            Write<T>(gradient, ds + at);
            Write<T>(gradient, PackedUnit<To, T>(packed, i, unit + u));
          }
        }
      });
}

}  // namespace
}  // namespace swarr
