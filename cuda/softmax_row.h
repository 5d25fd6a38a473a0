// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/softmax_row.h: the softmax over a row of logits, by one block. Training and sampling agree
// to the last bit because both call it on a block of SoftmaxThreads(V) threads. Thread t takes the entries t,
// t + threads, ..., in ascending order; a block's sums have one order (BlockSum).
#pragma once

#include <cmath>

#include "cuda/cuda.h"
#include "tensor/kernels/math.h"
#include "tensor/kernels/softmax_row.h"

namespace swarr {

constexpr int kMaxSoftmaxThreads = 1024;

// The threads for a row. Small vocabularies, such as bytes, take one warp.
constexpr unsigned SoftmaxThreads(std::int64_t V) {
  return V <= 512 ? kWarp : V <= 8192 ? kThreads : kMaxSoftmaxThreads;
}

// The whole block calls this, and every thread gets the result.
template <class T>
__device__ inline SoftmaxRow<T> BlockSoftmaxOf(const T* z, std::int64_t V) {
  T largest = -std::numeric_limits<T>::infinity();
#pragma unroll 4
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) largest = largest < z[v] ? z[v] : largest;
  largest = BlockMax(largest);
  T sum = 0, weighted = 0;
#pragma unroll 4
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    const T shifted = z[v] - largest, e = Exp(shifted);
    sum += e;
    weighted += e * shifted;
  }
  sum = BlockSum(sum);
  weighted = BlockSum(weighted);
  const T log_sum = std::log(sum);
  return {largest + log_sum, log_sum - weighted / sum};
}

}  // namespace swarr
