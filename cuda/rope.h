// SPDX-License-Identifier: Apache-2.0
// Rotary embedding at the end of a kernel that makes heads, in registers, with the bits of storing them rounded and of
// rope.cu afterwards.
#pragma once

#include "cuda/mma.h"
#include "tensor/kernels/formulas.h"

namespace swarr {

// Turns two neighbouring pairs (a[i], b[i]) of a head that would have been stored in bf16.
__device__ inline void TurnRounded(float* a, float* b, float2 cosine, float2 sine) {
  const auto low = [](std::uint32_t pair) { return __uint_as_float(pair << 16); };
  const auto high = [](std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); };
  const std::uint32_t from_a = RoundPair(a[0], a[1]), from_b = RoundPair(b[0], b[1]);
  const TurnedPair<float> first(low(from_a), low(from_b), cosine.x, sine.x),
      second(high(from_a), high(from_b), cosine.y, sine.y);
  a[0] = first.first, b[0] = first.second, a[1] = second.first, b[1] = second.second;
}

}  // namespace swarr
