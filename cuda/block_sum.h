// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over the threads of a block of whole warps. Every thread gets the result, with the same bits: each
// warp reduces by a butterfly, then every warp reduces the warps' results by one more. All threads must call.
#pragma once

#include <limits>

#include "cuda/cuda.h"

namespace swarr {

// Gives lane i of every warp the value of warp i, or `none` if there is no such warp.
template <class T>
__device__ inline T OfWarp(T of_this_warp, T none) {
  __shared__ T of_warp[kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  __syncthreads();  // an earlier call's values have been read
  if (lane == 0) of_warp[warp] = of_this_warp;
  __syncthreads();
  return lane < static_cast<int>(blockDim.x) / kWarp ? of_warp[lane] : none;
}

template <class T>
__device__ inline T BlockSum(T x) {
  return WarpSum(OfWarp(WarpSum(x), T(0)));
}

template <class T>
__device__ inline T BlockMax(T x) {
  return WarpMax(OfWarp(WarpMax(x), -std::numeric_limits<T>::infinity()));
}

}  // namespace swarr
