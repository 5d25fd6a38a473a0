// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Compiled like tile_kernel.cc: x * factor + term is one fused multiply-add where the set has one.
#include "bench/kernels/peak_kernel.h"

#include "tensor/cpu.h"
#include "tensor/kernels/vectors.h"

namespace swarr {
namespace {

// Two units with a latency of 4 to 5 need 10, and 16 registers hold 12 with factor and term.
constexpr int kChains = 12;

}  // namespace

template <>
std::int64_t PeakKernel<SWARR_SET>::FlopsPerStep() {
  return 2 * kChains * kLanes<float>;
}

template <>
float PeakKernel<SWARR_SET>::MultiplyAdd(std::int64_t steps, float factor, float term) {
  using V = Vector<float>;
  V x[kChains];
  // They differ, or they would be computed once.
  for (int i = 0; i < kChains; ++i) x[i] = V{} + static_cast<float>(i);
  const V factors = V{} + factor, terms = V{} + term;
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = x[i] * factors + terms;
  }
  V sum{};
  for (int i = 0; i < kChains; ++i) sum += x[i];
  return sum[0];
}

}  // namespace swarr
