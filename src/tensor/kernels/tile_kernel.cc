// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// This file and peak_kernel.cc alone are compiled with contraction (cmake/kernels.cmake): a * b + c is one fused
// multiply-add where the set has one.
#include "tensor/kernels/panels.h"
#include "tensor/kernels/vectors.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace swarr {
namespace {

// A tile of sums, and rows of b, in registers. With 32 of them f32 takes 6 rows times two panels: 34 instructions for
// 24 fused multiply-adds, where 8 rows times one panel would take 42. It shows where another thread shares the core.
#ifdef __AVX512F__
template <class Sum>
constexpr int kRows = sizeof(Sum) == 4 ? 6 : 8;
#else
template <class Sum>
constexpr int kRows = 6;
#endif

// Panels that many rows take at once: as many as leave room for their sums.
template <class Sum>
constexpr int kPanelsAtOnce = 2 * kLanes<Sum> == kPanel ? 2 : 1;

// A tile's sums: rows by 2 vectors for each span of columns.
template <class Sum, int kCount, int kSpans>
using Sums = Vector<Sum>[kCount][kSpans][2];
template <class Sum, int kSpans>
using Columns = Vector<Sum>[kSpans][2];

// sum += Broadcast(x) * b. A tile has as many sums as there are registers for, and each has to keep its own: left to
// itself the compiler moves them to and fro, a move for every second product.
#ifdef __AVX512F__
[[gnu::always_inline]] inline Vector<float> Broadcast(float x) { return (Vector<float>)_mm512_set1_ps(x); }
[[gnu::always_inline]] inline Vector<double> Broadcast(double x) { return (Vector<double>)_mm512_set1_pd(x); }
[[gnu::always_inline]] inline void AddProduct(Vector<float>& sum, Vector<float> factor, Vector<float> b) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(factor), "v"(b));
}
[[gnu::always_inline]] inline void AddProduct(Vector<double>& sum, Vector<double> factor, Vector<double> b) {
  asm("vfmadd231pd %2, %1, %0" : "+v"(sum) : "v"(factor), "v"(b));
}
#else
template <class Sum>
[[gnu::always_inline]] inline Sum Broadcast(Sum x) {
  return x;
}
// By value: a type of vectors that is deduced has lost its alignment. Without deducing it g++ 12 makes other code.
template <class Sum, class V>
[[gnu::always_inline]] inline V PlusProduct(V sum, Sum factor, V b) {
  return sum + factor * b;
}
template <class Sum>
[[gnu::always_inline]] inline void AddProduct(Vector<Sum>& sum, Sum factor, const Vector<Sum>& b) {
  sum = PlusProduct(sum, factor, b);
}
#endif

// sum[i] += x(i) * b for the rows i of a tile.
template <int kCount, int kSpans, class Sum, class F>
[[gnu::always_inline]] inline void AddProducts(Sums<Sum, kCount, kSpans>& sum, const F& x,
                                               const Columns<Sum, kSpans>& b) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    const auto factor = Broadcast(x(i));
#pragma GCC unroll 4
    for (int span = 0; span < kSpans; ++span) {
      AddProduct(sum[i][span][0], factor, b[span][0]);
      AddProduct(sum[i][span][1], factor, b[span][1]);
    }
  }
}

// Row k of the spans times x(i, k), or the pair of rows k and k + 1. Span s is at b[s].
template <int kCount, int kSpans, class T, class F>
[[gnu::always_inline]] inline void AddStep(Sums<Accumulator<T>, kCount, kSpans>& sum, const F& x, std::int64_t k,
                                           const T* const (&b)[kSpans]) {
  Columns<T, kSpans> columns;
#pragma GCC unroll 4
  for (int span = 0; span < kSpans; ++span) {
    columns[span][0] = Load(b[span] + k * kPanel);
    columns[span][1] = Load(b[span] + k * kPanel + kLanes<T>);
  }
  AddProducts<kCount, kSpans, T>(
      sum, [&](int i) __attribute__((always_inline)) { return x(i, k); }, columns);
}
// A 32-bit word of a panel of bf16 holds a pair of rows, the even one in its lower half.
template <int kCount, int kSpans, class F>
[[gnu::always_inline]] inline void AddStep(Sums<float, kCount, kSpans>& sum, const F& x, std::int64_t k,
                                           const BFloat16* const (&b)[kSpans]) {
  using Words = Vector<std::uint32_t>;
  const auto add = [&](int half, const auto& widen) __attribute__((always_inline)) {
    Columns<float, kSpans> columns;
#pragma GCC unroll 4
    for (int span = 0; span < kSpans; ++span) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(b[span] + k * kPanel);
      columns[span][0] = (Vector<float>)widen(Load(words));
      columns[span][1] = (Vector<float>)widen(Load(words + kLanes<float>));
    }
    AddProducts<kCount, kSpans, float>(
        sum, [&](int i) __attribute__((always_inline)) { return x(i, k + half); }, columns);
  };
  add(
      0, [](Words both) __attribute__((always_inline)) { return both << 16; });
  add(
      1, [](Words both) __attribute__((always_inline)) { return both & 0xffff0000u; });
}

// Calls f(sum, address) for the sums of a tile of rows at c, whose spans lie c_span apart. The address goes from row to
// row: worked out beforehand, all of them would want more registers than there are.
template <int kCount, int kSpans, class Sum, class F>
[[gnu::always_inline]] inline void ForSums(Sums<Sum, kCount, kSpans>& sum, Sum* c, std::int64_t c_span,
                                           std::int64_t c_stride, const F& f) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i, c += c_stride) {
    asm("" : "+r"(c));
#pragma GCC unroll 4
    for (int span = 0; span < kSpans; ++span) {
      f(sum[i][span][0], c + span * c_span);
      f(sum[i][span][1], c + span * c_span + kLanes<Sum>);
    }
  }
}

// A tile of rows times `kSpans` spans of two vectors. Span s is at b + s * b_stride and c + s * c_span. Widened rows
// keep the segments of bf16: kSegment<T> numbers of type Sum. Where another thread shares the core, time goes by
// instructions: the loop over k is unrolled, and few pointers go on in it, one for three rows or one for all of a
// transposed matrix. Full tiles ask for what lies ahead between their products, a line at a time: many at once are
// waited for. Where there is nothing, they ask for b, which is near.
template <int kCount, int kSpans, bool kTransposed, class T>
void Multiply(std::int64_t depth, const TileRows& rows, const T* b, std::int64_t b_stride, bool accumulate,
              Accumulator<T>* c, std::int64_t c_span, std::int64_t c_stride) {
  using Sum = Accumulator<T>;
  constexpr std::int64_t kBlock = kSegment<T>, kPair = kPairing<T>;
  constexpr bool kFetches = kCount == kRows<Sum>;
  const std::int64_t step = rows.step;
  std::int64_t row = rows.row;
  const std::byte* ahead = rows.ahead ? rows.ahead : reinterpret_cast<const std::byte*>(b);
  const auto* a = reinterpret_cast<const Sum*>(rows.data);
  const Sum *a3 = a + 3 * row, *a6 = a + 6 * row;
  const T* spans[kSpans];
#pragma GCC unroll 4
  for (int span = 0; span < kSpans; ++span) spans[span] = b + span * b_stride;
  const auto x = [&](int i, std::int64_t k) __attribute__((always_inline)) {
    if constexpr (kTransposed) return a[i];
    return (i < 3 ? a + i * row : i < 6 ? a3 + (i - 3) * row : a6 + (i - 6) * row)[k];
  };
  // From here on the pointers are known by themselves alone.
  const auto go_on = [&](std::int64_t by) __attribute__((always_inline)) {
    a += by;
    if constexpr (!kTransposed && kCount > 3) a3 += by;
    if constexpr (!kTransposed && kCount > 6) a6 += by;
    asm("" : "+r"(a), "+r"(a3), "+r"(a6), "+r"(row));
  };
  const auto go_down = [&](std::int64_t by) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (const T*& span : spans) {
      span += by * kPanel;
      asm("" : "+r"(span));
    }
  };
  Sums<Sum, kCount, kSpans> sum = {};
  if (accumulate) {
    ForSums<kCount, kSpans>(sum, c, c_span, c_stride, [](Vector<Sum>& v, const Sum* from) { v = Load(from); });
  }
  for (; depth >= kBlock; depth -= kBlock) {
#pragma GCC unroll 16
    for (std::int64_t k = 0; k < kBlock; k += kPair) {
      AddStep<kCount, kSpans>(sum, x, k, spans);
      if constexpr (kTransposed) go_on(step);
      if (kFetches && k > 0 && k % (kBlock / (kLinesAhead + 1)) == 0) {
        __builtin_prefetch(ahead, /*to write=*/0, /*into the second level=*/2);
        ahead += 64;
        asm("" : "+r"(ahead));
      }
    }
    if constexpr (!kTransposed) go_on(rows.segment);
    go_down(kBlock);
  }
  for (std::int64_t k = 0; k < depth; k += kPair) {
    AddStep<kCount, kSpans>(sum, x, 0, spans);
    go_on(kTransposed ? step : kPair);
    go_down(kPair);
  }
  ForSums<kCount, kSpans>(sum, c, c_span, c_stride, [](const Vector<Sum>& v, Sum* to) { Store(v, to); });
}

template <class T>
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const PanelView<T>& b,
                  bool accumulate, Accumulator<T>* c, std::int64_t c_stride) {
  using Sum = Accumulator<T>;
  const auto take = [&]<bool kTransposed>() {
    ForPanels<kRows<Sum>, kPanelsAtOnce<Sum>>(rows, panels, b, c, [&]<int kCount, int kPanels>(const T* from, Sum* to) {
      for (int column = 0; column < kPanel; column += 2 * kLanes<Sum>) {
        Multiply<kCount, kPanels, kTransposed>(depth, a, from + column * kPairing<T>, b.stride, accumulate, to + column,
                                               kPanel, c_stride);
      }
    });
  };
  if constexpr (kPairing<T> == 1) {
    if (a.step != 1) return take.template operator()<true>();
  }
  take.template operator()<false>();
}

// Each of kCount rows times two vectors of a panel of its own.
template <int kCount, class T>
void MultiplyEach(std::int64_t depth, const TileRows* rows, const T* const* b, std::int64_t column, bool accumulate,
                  Accumulator<T>* c, std::int64_t c_stride) {
  using Sum = Accumulator<T>;
  constexpr std::int64_t kBlock = kSegment<T>, kPair = kPairing<T>;
  Sums<Sum, 1, 1> sum[kCount] = {};
  const Sum* x[kCount];
  const T* panel[kCount][1];
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    x[i] = reinterpret_cast<const Sum*>(rows[i].data);
    panel[i][0] = b[i] + column * kPair;
    if (accumulate) {
      ForSums<1, 1>(sum[i], c + i * c_stride + column, 0, 0, [](Vector<Sum>& v, const Sum* from) { v = Load(from); });
    }
  }
  const auto add = [&](std::int64_t k) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      AddStep<1, 1>(
          sum[i], [&](int, std::int64_t at) __attribute__((always_inline)) { return x[i][at]; }, k, panel[i]);
    }
  };
  for (; depth >= kBlock; depth -= kBlock) {
    for (std::int64_t k = 0; k < kBlock; k += kPair) add(k);
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) x[i] += rows[i].segment, panel[i][0] += kBlock * kPanel;
  }
  for (std::int64_t k = 0; k < depth; k += kPair) add(k);
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    ForSums<1, 1>(sum[i], c + i * c_stride + column, 0, 0, [](const Vector<Sum>& v, Sum* to) { Store(v, to); });
  }
}

template <class T>
void MultiplyEachOf(int rows, std::int64_t depth, const TileRows* a, const T* const* b, bool accumulate,
                    Accumulator<T>* c, std::int64_t c_stride) {
  static_assert(TileKernel<T>::kEach == 4);
  const auto multiply = rows == 4   ? MultiplyEach<4, T>
                        : rows == 3 ? MultiplyEach<3, T>
                        : rows == 2 ? MultiplyEach<2, T>
                                    : MultiplyEach<1, T>;
  for (int column = 0; column < kPanel; column += 2 * kLanes<Accumulator<T>>) {
    multiply(depth, a, b, column, accumulate, c, c_stride);
  }
}

template <class T>
constexpr TileKernel<T> kKernel = {kRows<Accumulator<T>>,  kPanelsAtOnce<Accumulator<T>>,
                                   sizeof(Accumulator<T>), PackTile<T, Accumulator<T>>,
                                   MultiplyRows<T>,        MultiplyEachOf<T>};

}  // namespace

template <>
const TileKernel<double>& TileKernels<SWARR_SET>::F64() {
  return kKernel<double>;
}
template <>
const TileKernel<float>& TileKernels<SWARR_SET>::F32() {
  return kKernel<float>;
}
template <>
const TileKernel<BFloat16>& TileKernels<SWARR_SET>::BF16() {
  return kKernel<BFloat16>;
}

}  // namespace swarr
