// SPDX-License-Identifier: Apache-2.0
// IEEE 754 binary16, which files hold and nothing here computes in.
#pragma once

#include <bit>
#include <cstdint>

namespace swarr {

// The value of a half: 1 sign bit, 5 bits of exponent with bias 15, 10 of fraction. Every one is an f32, so this is
// exact; a NaN keeps its bits.
inline float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16, exponent = (half >> 10) & 0x1FU, fraction = half & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction units of 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign == 0 ? magnitude : -magnitude;
  }
  constexpr std::uint32_t kSpecial = 0xFF, kBiasDifference = 127 - 15;
  const std::uint32_t wide = exponent == 0x1F ? kSpecial : exponent + kBiasDifference;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

}  // namespace swarr
