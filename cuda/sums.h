// SPDX-License-Identifier: Apache-2.0
// Sums over rows for gradients of weights, in one order on every device. First each block of kRowsPerSum rows is
// summed, ascending. Then lane j of kSumLanes adds the blocks j, j + kSumLanes, ..., ascending; then the lanes are
// added, ascending.
#pragma once

#include "cuda/cuda.h"

namespace swarr {

constexpr std::int64_t kRowsPerSum = 128;
constexpr int kSumLanes = 16;

// Block (b, j) sums the b-th block of rows, for the j-th blockDim.x columns; a thread takes a column.
template <class Sum, class F>
__global__ void PartialSumsKernel(std::int64_t rows, std::int64_t columns, Sum* partial, F term) {
  const std::int64_t block = blockIdx.x, c = std::int64_t{blockIdx.y} * blockDim.x + threadIdx.x;
  WaitForPrevious();
  if (c >= columns) return;
  const std::int64_t end = min(rows, (block + 1) * kRowsPerSum);
  Sum sum = 0;
#pragma unroll 8
  for (std::int64_t n = block * kRowsPerSum; n < end; ++n) sum += term(n, c);
  partial[block * columns + c] = sum;
}

// A block takes kWarp columns (threadIdx.x) with kSumLanes lanes each (threadIdx.y).
template <class Sum>
__global__ void AddPartialSumsKernel(std::int64_t blocks, std::int64_t columns, const Sum* partial, Sum* to) {
  __shared__ Sum of_lane[kSumLanes][kWarp];
  const std::int64_t c = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
  WaitForPrevious();
  Sum sum = 0;
  if (c < columns) {
#pragma unroll 4
    for (std::int64_t block = threadIdx.y; block < blocks; block += kSumLanes) sum += partial[block * columns + c];
  }
  of_lane[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= columns) return;
  for (int lane = 1; lane < kSumLanes; ++lane) sum += of_lane[lane][threadIdx.x];
  to[c] += sum;
}

// to[c] += sum over b of partial[b, c], b < blocks.
template <class Sum>
void AddPartialSums(const Context& ctx, Sum* to, std::int64_t blocks, std::int64_t columns, const Sum* partial) {
  Launch(ctx, {.blocks = Blocks(columns, kWarp), .threads = dim3(kWarp, kSumLanes), .early = true},
         AddPartialSumsKernel<Sum>, blocks, columns, partial, to);
}

// to[c] += sum over n of term(n, c), c < columns, n < rows.
template <class Sum, class F>
void AddColumnSums(const Context& ctx, Sum* to, std::int64_t rows, std::int64_t columns, F term) {
  if (rows == 0 || columns == 0) return;
  ArenaScope scope(*ctx.arena);
  const std::int64_t blocks = Blocks(rows, kRowsPerSum);
  Sum* partial = ctx.arena->NewArray<Sum>(blocks * columns);
  constexpr int kColumns = 64;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(Blocks(columns, kColumns)));
  Launch(ctx, {.blocks = grid, .threads = kColumns, .early = true}, PartialSumsKernel<Sum, F>, rows, columns, partial,
         term);
  AddPartialSums(ctx, to, blocks, columns, partial);
}

}  // namespace swarr
