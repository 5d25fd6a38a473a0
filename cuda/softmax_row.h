// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/softmax_row.h: the softmax over a row of logits. Training and sampling agree to the last
// bit because both take it by the same steps, whether the logits are in memory (BlockSoftmaxOf) or still in the
// registers of their product (head_wgmma.cu):
//   1. A row is cut into slices of kSlice entries. Four neighbouring lanes take a slice; lane q of them has the entries
//      8 j + 2 q and 8 j + 2 q + 1, as it has of a product's sums (wgmma.h).
//   2. Lane l of a warp merges what is known of the slices l, l + 32, ..., in ascending order.
//   3. A butterfly merges the lanes.
#pragma once

#include <cmath>

#include "cuda/pack.h"
#include "tensor/kernels/math.h"
#include "tensor/kernels/softmax_row.h"

namespace swarr {

constexpr int kMaxSoftmaxThreads = 1024;

// The threads for a row. Small vocabularies, such as bytes, take one warp.
constexpr unsigned SoftmaxThreads(std::int64_t V) {
  return V <= 512 ? kWarp : V <= 8192 ? kThreads : kMaxSoftmaxThreads;
}

constexpr int kSlice = 64, kSliceLanes = 4;
constexpr int kLaneEntries = kSlice / kSliceLanes;

// What is known of some entries of a row: the largest, the sum of e = exp(z - largest), and that of e (z - largest).
template <class T>
struct SoftmaxPart {
  T largest, sum, weighted;
};
template <class T>
constexpr T kLowest = std::numeric_limits<T>::lowest();  // stands for entries past the end of a row

template <class T>
__device__ inline SoftmaxPart<T> Merge(SoftmaxPart<T> a, SoftmaxPart<T> b) {
  const T largest = a.largest < b.largest ? b.largest : a.largest;
  const T down_a = a.largest - largest, down_b = b.largest - largest;
  const T scale_a = Exp(down_a), scale_b = Exp(down_b);
  return {largest, a.sum * scale_a + b.sum * scale_b,
          (a.weighted + down_a * a.sum) * scale_a + (b.weighted + down_b * b.sum) * scale_b};
}

// Where the pair j of a lane's entries begins in its slice.
__device__ inline int PairInSlice(int j) { return j * 8 + static_cast<int>(threadIdx.x) % kSliceLanes * 2; }

// A slice, of which this lane has the entries z, in ascending order. All four lanes get the result. All lanes of the
// warp call this. Without `kWeighted` the weighted sum, which the entropy alone is made of, is left at 0.
template <bool kWeighted = true, class T>
__device__ inline SoftmaxPart<T> PartOfSlice(const T (&z)[kLaneEntries]) {
  T largest = z[0];
#pragma unroll
  for (int i = 1; i < kLaneEntries; ++i) largest = fmax(largest, z[i]);
#pragma unroll
  for (int distance = 1; distance < kSliceLanes; distance *= 2) {
    largest = fmax(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  T sum = 0, weighted = 0;
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) {
    const T shifted = z[i] - largest, e = Exp(shifted);
    sum += e;
    if (kWeighted) weighted = MultiplyAdd(e, shifted, weighted);
  }
#pragma unroll
  for (int distance = 1; distance < kSliceLanes; distance *= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (kWeighted) weighted += __shfl_xor_sync(0xffffffffu, weighted, distance);
  }
  return {largest, sum, weighted};
}

// The softmax of a row, of which lane l of the calling warp has merged the slices l, l + 32, ... Every lane gets it.
template <class T>
__device__ inline SoftmaxRow<T> WarpSoftmaxOf(SoftmaxPart<T> part) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    part = Merge(
        part, {__shfl_xor_sync(0xffffffffu, part.largest, distance), __shfl_xor_sync(0xffffffffu, part.sum, distance),
               __shfl_xor_sync(0xffffffffu, part.weighted, distance)});
  }
  const T log_sum = std::log(part.sum);
  return {part.largest + log_sum, log_sum - part.weighted / part.sum};
}

// The softmax of a row in memory. A block of SoftmaxThreads(V) threads calls this, and every thread gets the result.
template <class T>
__device__ inline SoftmaxRow<T> BlockSoftmaxOf(const T* z, std::int64_t V) {
  __shared__ SoftmaxPart<T> parts[kMaxSoftmaxThreads / kSliceLanes];
  __shared__ SoftmaxRow<T> softmax;
  const std::int64_t slices = Blocks(V, kSlice), at_once = blockDim.x / kSliceLanes, own = threadIdx.x / kSliceLanes;
  const bool aligned = reinterpret_cast<std::uintptr_t>(z) % sizeof(Pack<T, 2>) == 0;
  SoftmaxPart<T> of_lane{kLowest<T>, 0, 0};
  for (std::int64_t first = 0; first < slices; first += at_once) {
    T entries[kLaneEntries];
#pragma unroll
    for (int j = 0; j < kLaneEntries / 2; ++j) {
      const std::int64_t v = (first + own) * kSlice + PairInSlice(j);
      const Pack<T, 2> pair = LoadPack<2>(z, v, V, aligned);
      entries[2 * j] = v < V ? pair.at[0] : kLowest<T>;
      entries[2 * j + 1] = v + 1 < V ? pair.at[1] : kLowest<T>;
    }
    const SoftmaxPart<T> part = PartOfSlice(entries);
    __syncthreads();  // the parts before have been merged
    if (threadIdx.x % kSliceLanes == 0) parts[own] = part;
    __syncthreads();
    if (threadIdx.x >= kWarp) continue;
    const std::int64_t end = min(first + at_once, slices);
    for (std::int64_t s = first + (threadIdx.x + kWarp - first % kWarp) % kWarp; s < end; s += kWarp) {
      of_lane = Merge(of_lane, parts[s - first]);
    }
  }
  if (threadIdx.x < kWarp) {
    const SoftmaxRow<T> result = WarpSoftmaxOf(of_lane);
    if (threadIdx.x == 0) softmax = result;
  }
  __syncthreads();
  return softmax;
}

}  // namespace swarr
