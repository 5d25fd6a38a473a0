// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Compiled like tile_kernel.cc: x * factor + term is one fused multiply-add where the set has one.
#include "bench/kernels/peak_kernel.h"

#include "tensor/cpu.h"

namespace swarr {
namespace {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(float));
// Two units with a latency of 4 to 5 need 10, and 16 registers hold 12 with factor and term.
constexpr int kChains = 12;
typedef float Vector __attribute__((vector_size(kVectorBytes)));

}  // namespace

template <>
std::int64_t PeakKernel<SWARR_SET>::FlopsPerStep() {
  return 2 * kChains * kLanes;
}

template <>
float PeakKernel<SWARR_SET>::MultiplyAdd(std::int64_t steps, float factor, float term) {
  Vector x[kChains];
  // They differ, or they would be computed once.
  for (int i = 0; i < kChains; ++i) x[i] = Vector{} + static_cast<float>(i);
  const Vector factors = Vector{} + factor, terms = Vector{} + term;
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = x[i] * factors + terms;
  }
  Vector sum{};
  for (int i = 0; i < kChains; ++i) sum += x[i];
  return sum[0];
}

}  // namespace swarr
