// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Scalar functions of the kernels, written so that a compiler can vectorise the loops around them. They use only single
// additions, multiplications and divisions, and the build sets -ffp-contract=off. So a value does not depend on whether
// it was computed in a vector loop, in its remainder, or alone. They are constexpr, so that device code has them too; a
// device fuses where MultiplyAdd says so, and in f32 it has instructions for exponentials.
#pragma once

#include <bit>
#include <cstdint>
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

// The steps of Exp, below, for code that takes several numbers through them together.
//
// x = n ln 2 + r with integer n and |r| <= ln(2)/2, so e^x = 2^n e^r, and e^r is its Taylor series, cut where the
// remainder is below half a unit: degree 7 in f32 (r^8/8! < 6e-9), 13 in f64 (r^14/14! < 5e-18).
template <class T>
struct ExpSteps {
  static constexpr bool kDouble = sizeof(T) == 8;
  using Bits = std::conditional_t<kDouble, std::uint64_t, std::uint32_t>;  // their sums wrap
  static constexpr int kDegree = kDouble ? 13 : 7, kMantissa = kDouble ? 52 : 23;
  static constexpr T kInverseLn2 = static_cast<T>(1.4426950408889634074);
  // Adding 1.5 * 2^kMantissa to x / ln 2 leaves its nearest integer n in the low bits of the sum.
  static constexpr T kShift = static_cast<T>(kDouble ? 0x1.8p52 : 0x1.8p23);
  static constexpr T kLow = static_cast<T>(kDouble ? -708.0 : -87.0), kHigh = static_cast<T>(kDouble ? 709.0 : 88.0);
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  static constexpr T kLn2High = static_cast<T>(kDouble ? 0x1.62e42fefap-1 : 0x1.62ep-1);
  static constexpr T kLn2Low = static_cast<T>(kDouble ? 0x1.cf79abc9e3b3ap-40 : 0x1.0bfbe8p-15);

  [[gnu::always_inline]] static constexpr T NotAbove(T x) { return x > kHigh ? kHigh : x; }
  [[gnu::always_inline]] static constexpr T NotBelow(T x) { return x < kLow ? kLow : x; }
  [[gnu::always_inline]] static constexpr T Shifted(T x) { return MultiplyAdd(x, kInverseLn2, kShift); }
  [[gnu::always_inline]] static constexpr T Rest(T x, T shifted) {
    const T n = shifted - kShift;
    return MultiplyAdd(-n, kLn2Low, MultiplyAdd(-n, kLn2High, x));
  }
  // By Horner, 1 + r(1 + r/2(1 + r/3(...))): k goes from kDegree to 1, and the sum from 1.
  [[gnu::always_inline]] static constexpr T Next(T sum, T r, int k) {
    return MultiplyAdd(sum * r, T(1) / static_cast<T>(k), T(1));
  }
  // The bits of 2^n: n moves into the exponent field, where 1 has its bias, and the rest falls off.
  template <class B>  // Bits, or a vector of them
  [[gnu::always_inline]] static constexpr B PowerOfTwo(B shifted) {
    return (shifted << kMantissa) + std::bit_cast<Bits>(T(1));
  }
  // By a product, which is exact and leaves NaN what it is. Bits of n added to a NaN's can make a number of it.
  [[gnu::always_inline]] static constexpr T Scaled(T x, T sum, T shifted) {
    const T y = sum * std::bit_cast<T>(static_cast<Bits>(PowerOfTwo(std::bit_cast<Bits>(shifted))));
    return x < kLow ? T(0) : y;
  }
};

// e^x with a relative error of about one unit in the last place; 0 below the smallest normal number, finite above. In
// f32 a device takes 2^(x / ln 2) in two instructions, where the steps above are some twenty: there the relative error
// is |x| 2^-23 for large |x|, and e^x is infinite above the largest number.
template <class T>
[[gnu::always_inline]] constexpr T Exp(T x) {
  using Steps = ExpSteps<T>;
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) return Exp2(x * Steps::kInverseLn2);
#endif
  const T clamped = Steps::NotBelow(Steps::NotAbove(x)), shifted = Steps::Shifted(clamped);
  const T r = Steps::Rest(clamped, shifted);
  T sum = 1;
  for (int k = Steps::kDegree; k >= 1; --k) sum = Steps::Next(sum, r, k);
  return Steps::Scaled(x, sum, shifted);
}

// sigma(x) = 1 / (1 + e^-x), given e^-x or x.
template <class T>
[[gnu::always_inline]] constexpr T SigmoidOf(T e) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) return Reciprocal(T(1) + e);
#endif
  return T(1) / (T(1) + e);
}
template <class T>
[[gnu::always_inline]] constexpr T Sigmoid(T x) {
  return SigmoidOf(Exp(-x));
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

}  // namespace swarr
