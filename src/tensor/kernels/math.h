// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Scalar functions of the kernels, written so that a compiler can vectorise the loops around them. They use only single
// additions, multiplications and divisions, and the build sets -ffp-contract=off. So a value does not depend on whether
// it was computed in a vector loop, in its remainder, or alone. They are constexpr, so that device code has them too; a
// device fuses where MultiplyAdd says so, and in f32 it has instructions for exponentials.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace swarr {

// a b + c. A device rounds once, the processor twice.
template <class T>
[[gnu::always_inline]] constexpr T MultiplyAdd(T a, T b, T c) {
#ifdef __CUDA_ARCH__
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

#ifdef __CUDACC__
// One instruction each, with a relative error of 2^-22: 2^x, which is 0 at -infinity and exactly 1 at 0, and 1 / x.
// Numbers below the smallest normal one become 0.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float Reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
#endif

// e^x with a relative error of about one unit in the last place; 0 below the smallest normal number, finite above. In
// f32 a device takes 2^(x / ln 2) in two instructions, where the steps below are some twenty: there the relative error
// is |x| 2^-23 for large |x|, and e^x is infinite above the largest number.
//
// x = n ln 2 + r with integer n and |r| <= ln(2)/2, so e^x = 2^n e^r, and e^r is its Taylor series, cut where the
// remainder is below half a unit: degree 7 in f32 (r^8/8! < 6e-9), 13 in f64 (r^14/14! < 5e-18).
template <class T>
[[gnu::always_inline]] constexpr T Exp(T x) {
  constexpr T kInverseLn2 = static_cast<T>(1.4426950408889634074);
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) return Exp2(x * kInverseLn2);
#endif
  constexpr bool kDouble = sizeof(T) == 8;
  using Bits = std::conditional_t<kDouble, std::int64_t, std::int32_t>;
  constexpr int kDegree = kDouble ? 13 : 7, kMantissa = kDouble ? 52 : 23;
  // Adding 1.5 * 2^kMantissa to x / ln 2 leaves its nearest integer n in the low bits of the sum.
  constexpr T kShift = static_cast<T>(kDouble ? 0x1.8p52 : 0x1.8p23);
  constexpr T kLow = static_cast<T>(kDouble ? -708.0 : -87.0), kHigh = static_cast<T>(kDouble ? 709.0 : 88.0);
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  constexpr T kLn2High = static_cast<T>(kDouble ? 0x1.62e42fefap-1 : 0x1.62ep-1);
  constexpr T kLn2Low = static_cast<T>(kDouble ? 0x1.cf79abc9e3b3ap-40 : 0x1.0bfbe8p-15);
  const T lowered = x > kHigh ? kHigh : x, clamped = x < kLow ? kLow : lowered;
  const T shifted = MultiplyAdd(clamped, kInverseLn2, kShift), n = shifted - kShift;
  const T r = MultiplyAdd(-n, kLn2Low, MultiplyAdd(-n, kLn2High, clamped));
  T sum = 1;  // by Horner: 1 + r(1 + r/2(1 + r/3(...)))
  for (int k = kDegree; k >= 1; --k) sum = MultiplyAdd(sum * r, T(1) / static_cast<T>(k), T(1));
  // Moves n into the exponent field; the rest falls off.
  const Bits exponent = std::bit_cast<Bits>(shifted) << kMantissa;
  const T y = std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(sum) + exponent));
  return x < kLow ? T(0) : y;
}

// sigma(x) = 1 / (1 + e^-x).
template <class T>
[[gnu::always_inline]] constexpr T Sigmoid(T x) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) return Reciprocal(T(1) + Exp(-x));
#endif
  return T(1) / (T(1) + Exp(-x));
}

// log x of a positive normal f64, with an error of less than three units in the last place.
//
// x = 2^n m with sqrt(1/2) <= m < sqrt(2); log m = 2 atanh(s) with s = (m - 1) / (m + 1), |s| < 0.1716, whose series
// 2 (s + s^3/3 + s^5/5 + ...) is cut at s^21 (s^22 / 23 < 1e-18). Subtracting the bits of sqrt(1/2) before taking the
// exponent moves m into that range.
[[gnu::always_inline]] constexpr double Log(double x) {
  constexpr std::int64_t kHalfRoot = 0x3fe6a09e667f3bcd, kExponent = -(std::int64_t{1} << 52);  // and the sign of n
  constexpr double kLn2 = 0.693147180559945309417;
  const std::int64_t shifted = std::bit_cast<std::int64_t>(x) - kHalfRoot;
  const double n = static_cast<double>(shifted >> 52);
  const double m = std::bit_cast<double>(std::bit_cast<std::int64_t>(x) - (shifted & kExponent));
  const double s = (m - 1) / (m + 1), square = s * s;
  double sum = 1.0 / 21;
  for (int k = 19; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return n * kLn2 + 2 * s * sum;
}

// The sum of term(i), i < n, in a fixed order: a cache line of interleaved partial sums, then a fixed tree over them.
// Terms of 0 before the first or after the last leave the sum as it is, if the first index stays a multiple of the
// lanes.
template <class T, class F>
[[gnu::always_inline]] inline T LaneSum(std::int64_t n, F&& term) {
  constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
  T lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += term(i + j);
  }
  for (int j = 0; i + j < n; ++j) lane[j] += term(i + j);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

// The largest of x[i], i < n; -infinity for n = 0.
template <class T>
[[gnu::always_inline]] inline T Largest(const T* x, std::int64_t n) {
  constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
  T lane[kLanes];
  for (T& l : lane) l = -std::numeric_limits<T>::infinity();
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] = lane[j] < x[i + j] ? x[i + j] : lane[j];
  }
  for (; i < n; ++i) lane[0] = lane[0] < x[i] ? x[i] : lane[0];
  for (int j = 1; j < kLanes; ++j) lane[0] = lane[0] < lane[j] ? lane[j] : lane[0];
  return lane[0];
}

}  // namespace swarr
