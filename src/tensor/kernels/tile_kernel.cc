// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// This file and peak_kernel.cc alone are compiled with contraction (cmake/kernels.cmake): a * b + c is one fused
// multiply-add where the set has one.
#include "tensor/kernels/panels.h"

namespace swarr {
namespace {

// A tile of sums, and rows of b, in registers. With 32 of them f32 takes 6 rows times two panels: 34 instructions for
// 24 fused multiply-adds, where 8 rows times one panel would take 42. It shows where another thread shares the core.
#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
template <class Sum>
constexpr int kRows = sizeof(Sum) == 4 ? 6 : 8;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
template <class Sum>
constexpr int kRows = 6;
#else
constexpr int kVectorBytes = 16;
template <class Sum>
constexpr int kRows = 6;
#endif

// Loads and stores through this type need no more alignment than an element has.
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// By value: a reference that a template returns has clang forget the type's alignment, and it takes a whole vector's.
template <class T>
[[gnu::always_inline]] inline Vector<T> Load(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}
template <class T>
[[gnu::always_inline]] inline void Store(const Vector<T>& v, T* p) {
  *reinterpret_cast<Vector<T>*>(p) = v;
}

// Panels that many rows take at once: as many as leave room for their sums.
template <class Sum>
constexpr int kPanelsAtOnce = 2 * kLanes<Sum> == kPanel ? 2 : 1;

// A tile's sums: rows by 2 vectors for each span of columns.
template <class Sum, int kCount, int kSpans>
using Sums = Vector<Sum>[kCount][kSpans][2];
template <class Sum, int kSpans>
using Columns = Vector<Sum>[kSpans][2];

// sum[i] += x[i * row] * b for the rows i of a tile.
template <int kCount, int kSpans, class Sum>
[[gnu::always_inline]] inline void AddProducts(Sums<Sum, kCount, kSpans>& sum, const Sum* x, std::int64_t row,
                                               const Columns<Sum, kSpans>& b) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
    const Sum factor = x[i * row];
#pragma GCC unroll 4
    for (int span = 0; span < kSpans; ++span) {
      sum[i][span][0] += factor * b[span][0];
      sum[i][span][1] += factor * b[span][1];
    }
  }
}

// Row k of the spans, or the pair of rows k and k + 1, times the rows of a at x. Span s is at b + s * b_stride.
template <int kCount, int kSpans, class T>
[[gnu::always_inline]] inline void AddStep(Sums<T, kCount, kSpans>& sum, const T* x, std::int64_t row, const T* b,
                                           std::int64_t b_stride) {
  Columns<T, kSpans> columns;
#pragma GCC unroll 4
  for (int span = 0; span < kSpans; ++span) {
    columns[span][0] = Load(b + span * b_stride);
    columns[span][1] = Load(b + span * b_stride + kLanes<T>);
  }
  AddProducts<kCount, kSpans, T>(sum, x, row, columns);
}
// A 32-bit word of a panel of bf16 holds a pair of rows, the even one in its lower half.
template <int kCount, int kSpans>
[[gnu::always_inline]] inline void AddStep(Sums<float, kCount, kSpans>& sum, const float* x, std::int64_t row,
                                           const BFloat16* b, std::int64_t b_stride) {
  using Words = Vector<std::uint32_t>;
  Columns<float, kSpans> even, odd;
#pragma GCC unroll 4
  for (int span = 0; span < kSpans; ++span) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(b + span * b_stride);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const Words both = Load(words + v * kLanes<float>);
      even[span][v] = (Vector<float>)(both << 16);
      odd[span][v] = (Vector<float>)(both & 0xffff0000u);
    }
  }
  AddProducts<kCount, kSpans, float>(sum, x, row, even);
  AddProducts<kCount, kSpans, float>(sum, x + 1, row, odd);
}

// A tile of rows times `kSpans` spans of two vectors. Span s is at b + s * b_stride and c + s * c_span. Widened rows
// keep the segments of bf16: kSegment<T> numbers of type Sum.
template <int kCount, int kSpans, class T>
void Multiply(std::int64_t depth, const TileRows& rows, const T* b, std::int64_t b_stride, bool accumulate,
              Accumulator<T>* c, std::int64_t c_span, std::int64_t c_stride) {
  using Sum = Accumulator<T>;
  constexpr std::int64_t kBlock = kSegment<T>;
  const auto* a = reinterpret_cast<const Sum*>(rows.data);
  Sums<Sum, kCount, kSpans> sum = {};
  const auto at = [&](int i, int span, int v) { return c + i * c_stride + span * c_span + v * kLanes<Sum>; };
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
      for (int span = 0; span < kSpans; ++span) {
        sum[i][span][0] = Load(at(i, span, 0));
        sum[i][span][1] = Load(at(i, span, 1));
      }
    }
  }
  const auto step = [&](std::int64_t k) { AddStep<kCount, kSpans>(sum, a + k, rows.row, b + k * kPanel, b_stride); };
  for (; depth >= kBlock; depth -= kBlock, a += rows.segment, b += kBlock * kPanel) {
#pragma GCC unroll 4
    for (std::int64_t k = 0; k < kBlock; k += kPairing<T>) step(k);
  }
  for (std::int64_t k = 0; k < depth; k += kPairing<T>) step(k);
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
    for (int span = 0; span < kSpans; ++span) {
      Store(sum[i][span][0], at(i, span, 0));
      Store(sum[i][span][1], at(i, span, 1));
    }
  }
}

template <class T>
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const T* b,
                  std::int64_t b_stride, bool accumulate, Accumulator<T>* c, std::int64_t c_stride) {
  ForPanels<kRows<Accumulator<T>>, kPanelsAtOnce<Accumulator<T>>>(
      rows, panels, b, b_stride, c, [&]<int kCount, int kPanels>(const T* from, Accumulator<T>* to) {
        for (int column = 0; column < kPanel; column += 2 * kLanes<Accumulator<T>>) {
          Multiply<kCount, kPanels>(depth, a, from + column * kPairing<T>, b_stride, accumulate, to + column, kPanel,
                                    c_stride);
        }
      });
}

template <class T>
constexpr TileKernel<T> kKernel = {kRows<Accumulator<T>>, kPanelsAtOnce<Accumulator<T>>, sizeof(Accumulator<T>),
                                   PackTile<T, Accumulator<T>>, MultiplyRows<T>};

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
