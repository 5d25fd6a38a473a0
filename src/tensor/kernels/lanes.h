// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Along a row, in vectors: sums, whose order depends on the row's length alone, maxima and exponentials.
#pragma once

#include <cstdint>
#include <limits>

#include "tensor/kernels/math.h"
#include "tensor/kernels/vectors.h"

namespace swarr {

// Lanes of a row: element i belongs to lane i mod kLanes, a cache line of them. Lanes meet in a fixed tree.
template <class T>
struct RowLanes {
  static constexpr int kCount = 64 / static_cast<int>(sizeof(T));
  T lane[kCount];

  // Below every number.
  [[gnu::always_inline]] static RowLanes Lowest() {
    RowLanes lowest;
    for (T& l : lowest.lane) l = -std::numeric_limits<T>::infinity();
    return lowest;
  }
  // The larger of two, of which b may be NaN: then a.
  [[gnu::always_inline]] static T Larger(T a, T b) { return a < b ? b : a; }
  // Each lane becomes the largest of itself and its numbers among x[i], i < kCount.
  [[gnu::always_inline]] void TakeLargest(const T* x) {
#pragma GCC unroll 1  // unrolled to the end, it would not be vectorised
    for (int j = 0; j < kCount; ++j) lane[j] = Larger(lane[j], x[j]);
  }

  template <class F>
  [[gnu::always_inline]] T Meet(F&& join) {
#pragma GCC unroll 4  // so that a width is a constant
    for (int width = kCount / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lane[j] = join(lane[j], lane[j + width]);
    }
    return lane[0];
  }
  [[gnu::always_inline]] T Sum() {
    return Meet([](T a, T b) { return a + b; });
  }
};

// The same lanes in vectors, for sums and maxima of several rows at once.
template <class T>
struct LaneVectors {
  static constexpr int kVectors = RowLanes<T>::kCount / kLanes<T>;
  Vector<T> vector[kVectors];

  [[gnu::always_inline]] void Fill(T x) {
#pragma GCC unroll 4
    for (auto& v : vector) v = Vector<T>{} + x;
  }
  [[gnu::always_inline]] void TakeLargest(const T* x) {
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const Vector<T> other = Load(x + i * kLanes<T>);
      vector[i] = vector[i] < other ? other : vector[i];
    }
  }
  // Adds kCount vectors, as many as lie in these lanes, or more that follow them in the row.
  template <int kCount>
  [[gnu::always_inline]] void Add(const Vector<T>* x) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) vector[i % kVectors] += x[i];
  }
  [[gnu::always_inline]] RowLanes<T> Lanes() const {
    RowLanes<T> lanes;
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) Store(vector[i], lanes.lane + i * kLanes<T>);
    return lanes;
  }
};

// The sum of term(i), i < n, in a fixed order: interleaved partial sums, then the tree over them. Terms of 0 before the
// first or after the last leave the sum as it is, if the first index stays a multiple of the lanes.
template <class T, class F>
[[gnu::always_inline]] inline T LaneSum(std::int64_t n, F&& term) {
  constexpr int kWidth = RowLanes<T>::kCount, kStep = 2 * kWidth;  // so many numbers of half the size are a vector too
  LaneVectors<T> vectors = {};
  std::int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    T terms[kStep];
    for (int j = 0; j < kStep; ++j) terms[j] = term(i + j);
    Vector<T> x[kStep / kLanes<T>];
#pragma GCC unroll 16
    for (int j = 0; j < kStep / kLanes<T>; ++j) x[j] = Load(terms + j * kLanes<T>);
    vectors.template Add<kStep / kLanes<T>>(x);
  }
  RowLanes<T> sums = vectors.Lanes();
  for (; i + kWidth <= n; i += kWidth) {
    for (int j = 0; j < kWidth; ++j) sums.lane[j] += term(i + j);
  }
  for (int j = 0; i + j < n; ++j) sums.lane[j] += term(i + j);
  return sums.Sum();
}

// The largest of x[i], i < n; -infinity for n = 0. A NaN is never the largest.
template <class T>
[[gnu::always_inline]] inline T Largest(const T* x, std::int64_t n) {
  using Row = RowLanes<T>;
  Row most = Row::Lowest();
  std::int64_t i = 0;
  for (; i + Row::kCount <= n; i += Row::kCount) most.TakeLargest(x + i);
  for (int j = 0; i + j < n; ++j) most.lane[j] = Row::Larger(most.lane[j], x[i + j]);
  return most.Meet(Row::Larger);
}

// How many numbers ExpAll had best take: eight vectors of the widest.
template <class T>
constexpr int kTogether = 8 * RowLanes<T>::kCount;

// Calls f.operator()<count>(i) for pieces of kCount, kCount / 2, ... kLeast numbers, as large as they fit, which cover
// [i, n) but for a rest of less than kLeast. Returns where that begins.
template <int kCount, int kLeast, class F>
[[gnu::always_inline]] inline std::int64_t ForPieces(std::int64_t i, std::int64_t n, const F& f) {
  for (; i + kCount <= n; i += kCount) f.template operator()<kCount>(i);
  if constexpr (kCount > kLeast) return ForPieces<kCount / 2, kLeast>(i, n, f);
  return i;
}

// x[i] = Exp(x[i]) of vectors of numbers of which none is above ExpSteps' kHigh, as in a softmax, every step for all
// before the next. The steps of one number wait for one another, and a processor looks ahead over those of two or three
// vectors only, too few to keep it busy. What is below kLow needs no clamping, since nothing remains of it.
template <class T, int kCount>
[[gnu::always_inline]] inline void ExpNotAbove(Vector<T> (&x)[kCount]) {
  using Steps = ExpSteps<T>;
  using V = Vector<T>;
  using Bits = Vector<typename Steps::Bits>;
  V shifted[kCount], r[kCount], sum[kCount];
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) shifted[i] = x[i] * Steps::kInverseLn2 + Steps::kShift;
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    const V n = shifted[i] - Steps::kShift;
    r[i] = MultiplyExactlyAdd(n, -Steps::kLn2High, x[i]) - n * Steps::kLn2Low;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) sum[i] = r[i] * (T(1) / Steps::kDegree) + T(1);
#pragma GCC unroll 16
  for (int k = Steps::kDegree - 1; k >= 1; --k) {
    const T inverse = T(1) / static_cast<T>(k);
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      const V product = sum[i] * r[i];
      sum[i] =
          k > 1 && (k & (k - 1)) == 0 ? MultiplyExactlyAdd(product, inverse, V{} + T(1)) : product * inverse + T(1);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    const V y = sum[i] * (V)Steps::PowerOfTwo((Bits)shifted[i]);
    x[i] = x[i] < Steps::kLow ? V{} : y;
  }
}

// The same of any numbers, which are whole vectors. Four together are as many as find room in registers.
template <int kCount, class T>
[[gnu::always_inline]] inline void ExpAll(T (&x)[kCount]) {
  constexpr int kMost = 4, kAll = kCount / kLanes<T>, kVectors = kAll < kMost ? kAll : kMost;
  static_assert(kCount % (kVectors * kLanes<T>) == 0);
  for (T *to = x, *end = x + kCount; to < end; to += kVectors * kLanes<T>) {
    Vector<T> v[kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      const Vector<T> y = Load(to + i * kLanes<T>);
      v[i] = y > ExpSteps<T>::kHigh ? Vector<T>{} + ExpSteps<T>::kHigh : y;
    }
    ExpNotAbove<T>(v);
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) Store(v[i], to + i * kLanes<T>);
  }
}

// Calls f(i, Sigmoid(x(i))) for i < n. What f writes for one i is not read for another.
template <class T, class X, class F>
[[gnu::always_inline]] inline void ForSigmoids(std::int64_t n, const X& x, const F& f) {
  const auto together = [&]<int kCount>(std::int64_t i) {
    T e[kCount];
    for (int j = 0; j < kCount; ++j) e[j] = -x(i + j);
    ExpAll(e);
#pragma GCC ivdep
    for (int j = 0; j < kCount; ++j) f(i + j, SigmoidOf(e[j]));
  };
  std::int64_t i = ForPieces<kTogether<T>, kTogether<T> / 4>(0, n, together);
#pragma GCC ivdep
  for (; i < n; ++i) f(i, Sigmoid(x(i)));
}

}  // namespace swarr
