// SPDX-License-Identifier: Apache-2.0
// What the scalar kernels of attention share (attention_kernel.cu, attention_backward.cu). A warp takes kRows rows, and
// meets tiles of 32 other rows. First lane j computes the products with row j of the tile, ascending in D, over chunks
// of 32 columns that the block stages in shared memory. Then lane l sums columns l, l + 32, ... of the weighted rows,
// ascending in j, in shared memory. Left out: register tiles wider than a warp's kRows, and asynchronous copies.
#pragma once

#include "cuda/attention/attention_tiles.h"

namespace swarr {
namespace {

constexpr int kRows = 4;

// 32 rows and 32 columns of a tile; lane j reads row j. The odd pitch keeps lanes in different banks.
template <class Sum>
using Chunk = Sum[kWarp][kWarp + 1];
// Weights of a tile's rows for a warp's rows, for all lanes to read.
template <class Sum>
using Weights = Sum[kWarp][kRows];

// The rows of a tile in memory.
template <class T>
struct TileRows {
  const T* data;
  std::int64_t stride;
  int valid;
};

// dots[r] = x_r . (row `lane` of the tile); 0 for rows beyond the last. The whole block calls this.
template <class T, class Sum = Accumulator<T>>
__device__ void Dots(const T* const (&x)[kRows], TileRows<T> tile, std::int64_t D, Chunk<Sum>& chunk,
                     Sum (&dots)[kRows]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (Sum& dot : dots) dot = 0;
  for (std::int64_t begin = 0; begin < D; begin += kWarp) {
    const int columns = static_cast<int>(min(std::int64_t{kWarp}, D - begin));
    __syncthreads();
    for (int i = threadIdx.x; i < kWarp * kWarp; i += blockDim.x) {
      const int j = i / kWarp, c = i % kWarp;
      chunk[j][c] = j < tile.valid && c < columns ? Sum(tile.data[j * tile.stride + begin + c]) : Sum(0);
    }
    __syncthreads();
    for (int c = 0; c < columns; ++c) {
      const Sum y = chunk[lane][c];
#pragma unroll
      for (int r = 0; r < kRows; ++r) dots[r] = fma(Sum(x[r][begin + c]), y, dots[r]);
    }
  }
}

// sums[r, c] = scale[r] sums[r, c] + sum over j of weight_j[r] tile[j, c]; lane j passes weight_j. A whole warp calls
// this.
template <class T, class Sum = Accumulator<T>>
__device__ void AddWeighted(const Sum (&weight)[kRows], const Sum (&scale)[kRows], TileRows<T> tile, std::int64_t D,
                            Weights<Sum>& weights, Sum* sums) {
  const int lane = threadIdx.x % kWarp;
  __syncwarp();
#pragma unroll
  for (int r = 0; r < kRows; ++r) weights[lane][r] = weight[r];
  __syncwarp();
  for (std::int64_t c = lane; c < D; c += kWarp) {
    Sum sum[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum[r] = sums[r * D + c] * scale[r];
    for (int j = 0; j < tile.valid; ++j) {
      const Sum x = Sum(tile.data[j * tile.stride + c]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) sum[r] = fma(weights[j][r], x, sum[r]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) sums[r * D + c] = sum[r];
  }
}

// Shared memory of a kernel: as many arrays of sums [kRows, D] for each warp.
template <class Sum>
std::size_t SumsBytes(int warps, std::int64_t D, int arrays) {
  return static_cast<std::size_t>(warps * kRows * D * arrays) * sizeof(Sum);
}

// As many warps as have room for their sums, up to kWarps.
template <class Sum>
int WarpsFor(std::int64_t D, int arrays) {
  int warps = kWarps;
  while (warps > 1 && SumsBytes<Sum>(warps, D, arrays) > 128 * 1024) warps /= 2;
  return warps;
}

// This warp's sums, set to 0. A lane touches its own columns only.
template <class Sum>
__device__ Sum* ZeroSums(std::int64_t D, int arrays) {
  extern __shared__ double shared[];
  Sum* sums = reinterpret_cast<Sum*>(shared) + threadIdx.x / kWarp * kRows * D * arrays;
  for (int r = 0; r < kRows * arrays; ++r) {
    for (std::int64_t c = threadIdx.x % kWarp; c < D; c += kWarp) sums[r * D + c] = 0;
  }
  return sums;
}

// The rows of a block that a warp takes, as rows of [N, H]. Behind the last one stands the first again, seeing nothing.
struct WarpRows {
  std::int64_t row[kRows];
  int position[kRows];
  int count;

  template <class T>
  __device__ WarpRows(const QueryBlock<T>& b, const std::int32_t* q_pos, std::int64_t H) {
    const int begin = static_cast<int>(threadIdx.x) / kWarp * kRows;
    count = max(0, min(kRows, b.count - begin));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      row[r] = r < count ? b.first + (begin + r) * b.step : b.first;
      position[r] = r < count ? q_pos[row[r] / H] : -1;
    }
  }
  template <class T>
  __device__ void Point(const T* x, std::int64_t D, const T* (&at)[kRows]) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) at[r] = x + row[r] * D;
  }
};

}  // namespace
}  // namespace swarr
