// SPDX-License-Identifier: Apache-2.0
// Runs: 4 or 8 elements of a product's result, which are rounded and stored together.
#pragma once

#include "cuda/mma.h"
#include "cuda/pack.h"

namespace swarr {

template <int k, class T>
__device__ inline void AddRun(float (&sums)[k], const Pack<T, k>& run) {
#pragma unroll
  for (int i = 0; i < k; ++i) sums[i] += float(run.at[i]);
}
__device__ inline void StoreRun(float* to, const float (&sums)[4]) {
  *reinterpret_cast<float4*>(to) = make_float4(sums[0], sums[1], sums[2], sums[3]);
}
__device__ inline void StoreRun(BFloat16* to, const float (&sums)[4]) {
  *reinterpret_cast<uint2*>(to) = make_uint2(RoundPair(sums[0], sums[1]), RoundPair(sums[2], sums[3]));
}
__device__ inline void StoreRun(BFloat16* to, const float (&sums)[8]) {
  *reinterpret_cast<uint4*>(to) = make_uint4(RoundPair(sums[0], sums[1]), RoundPair(sums[2], sums[3]),
                                             RoundPair(sums[4], sums[5]), RoundPair(sums[6], sums[7]));
}

// A run of staged sums, which begins at a multiple of 16 bytes.
template <int k>
__device__ inline void LoadSums(float (&run)[k], const float* from) {
#pragma unroll
  for (int i = 0; i < k; i += 4) *reinterpret_cast<float4*>(run + i) = *reinterpret_cast<const float4*>(from + i);
}

}  // namespace swarr
