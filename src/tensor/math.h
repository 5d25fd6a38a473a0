// SPDX-License-Identifier: Apache-2.0
// Scalar functions of the kernels, written so that a compiler can vectorise the loops around them. They use only single
// additions, multiplications and divisions (the build fixes -ffp-contract=off for them), so that a value does not
// depend on whether it was computed in a vector loop, in its remainder, or alone.
#pragma once

#include <bit>
#include <cstdint>

namespace swarr {

// e^x with a relative error of about one unit in the last place; 0 below the smallest normal number, finite above.
//
// x = n ln 2 + r with integer n and |r| <= ln(2)/2, so e^x = 2^n e^r, and e^r is its Taylor series, cut where the
// remainder is below half a unit: degree 7 in f32 (r^8/8! < 6e-9), 13 in f64 (r^14/14! < 5e-18).
// n is found by adding 1.5 * 2^(mantissa bits), which leaves round(x / ln 2) in the low bits of the sum.
template <class T>
inline T Exp(T x) {
  constexpr bool kDouble = sizeof(T) == 8;
  using Bits = std::conditional_t<kDouble, std::int64_t, std::int32_t>;
  constexpr int kMantissa = kDouble ? 52 : 23;
  constexpr int kDegree = kDouble ? 13 : 7;
  constexpr T kShift = static_cast<T>(kDouble ? 0x1.8p52 : 0x1.8p23);
  constexpr T kLow = static_cast<T>(kDouble ? -708.0 : -87.0);
  constexpr T kHigh = static_cast<T>(kDouble ? 709.0 : 88.0);
  constexpr T kInverseLn2 = static_cast<T>(1.4426950408889634074);
  // ln 2 in two parts; the first has so few bits that n times it is exact.
  constexpr T kLn2High = static_cast<T>(kDouble ? 0x1.62e42fefap-1 : 0x1.62ep-1);
  constexpr T kLn2Low = static_cast<T>(kDouble ? 0x1.cf79abc9e3b3ap-40 : 0x1.0bfbe8p-15);

  const T clamped = x < kLow ? kLow : (x > kHigh ? kHigh : x);
  const T shifted = clamped * kInverseLn2 + kShift;
  const T n = shifted - kShift;
  const T r = (clamped - n * kLn2High) - n * kLn2Low;
  T sum = 1;
  for (int k = kDegree; k >= 1; --k)
    sum = 1 + sum * r * (T(1) / static_cast<T>(k));  // Horner: 1 + r(1 + r/2(1 + r/3(...)))
  const Bits exponent = std::bit_cast<Bits>(shifted)
                        << kMantissa;  // n moved into the exponent field; the rest falls off
  const T y = std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(sum) + exponent));
  return x < kLow ? T(0) : y;
}

// sigma(x) = 1 / (1 + e^-x).
template <class T>
inline T Sigmoid(T x) {
  return T(1) / (T(1) + Exp(-x));
}

// Sum of a[i] * b[i] in a fixed order: kLanes interleaved partial sums, then a fixed tree over them.
template <class T>
inline T Dot(const T* a, const T* b, std::int64_t n) {
  constexpr int kLanes = 64 / static_cast<int>(sizeof(T));
  T lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += a[i + j] * b[i + j];
  }
  for (int j = 0; i + j < n; ++j) lane[j] += a[i + j] * b[i + j];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

// y[i] += a * x[i].
template <class T>
inline void AddScaled(T* y, T a, const T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

}  // namespace swarr
