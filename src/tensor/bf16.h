// SPDX-License-Identifier: Apache-2.0
// bfloat16: the upper half of an f32. Storage only: kernels widen it, compute in f32 and round once, when they store.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace swarr {

// Conversions are always inlined: every set of kernels must compile its own (kernels.h).
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;
  // Rounds to nearest, ties to even; NaN stays NaN. A device has an instruction for it, with one NaN for all.
  [[gnu::always_inline]] constexpr explicit BFloat16(float x) {
#ifdef __CUDA_ARCH__
    if (!std::is_constant_evaluated()) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
      return;
    }
#endif
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    const std::uint32_t quiet = (u >> 16) | 0x40;
    bits = static_cast<std::uint16_t>(x != x ? quiet : rounded);
  }
  [[gnu::always_inline]] constexpr explicit BFloat16(double x) : BFloat16(ToOdd(x)) {}
  [[gnu::always_inline]] constexpr operator float() const {  // exact
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  // x as f32. If that is not exact, x is rounded to the neighbour with an odd last bit. Rounding the result to nearest
  // even then gives what rounding x at once would give.
  [[gnu::always_inline]] constexpr static float ToOdd(double x) {
    const auto f = static_cast<float>(x);
    const auto u = std::bit_cast<std::uint32_t>(f);
    const auto back = static_cast<double>(f);
    if (back == x || x != x || (u & 1) != 0) return f;
    const bool away = x > 0 ? back > x : back < x;  // the other neighbour is nearer to 0
    return std::bit_cast<float>(away ? u - 1 : u + 1);
  }
};

}  // namespace swarr
