// SPDX-License-Identifier: Apache-2.0
// Products in bf16 of few rows with a layer's weights, as in decoding: c[rows, columns] = x[rows, depth] w^T, with the
// bits of gemm_mma.cu, since every element is the same chain of instructions over ascending k. What counts here is how
// soon a launch is done, and little else:
//
//   - Where weights are steady (context.h), a launch may begin before the launch before it is done (cuda.h). Its blocks
//     then fetch weights, and wait for x afterwards.
//   - All of a block's rows of x are in shared memory at once. They may be normed there (norm_row.h), since a block has
//     whole rows; so the norm costs no launch.
//   - Sums pass through shared memory, where a whole head or a gate and its unit meet, and what follows the product is
//     done at once: residual, SwiGLU, rotary embedding, the storing of keys (few_rows.cu, few_rows_fused.cu).
//
// A block has a tile of c and goes through k once. `Layer` says which weights its columns have, and what becomes of the
// sums:
//   const BFloat16* WeightRow<S>(tile, column)   the row of w of a column of a tile; null beyond the last
//   Store<S>(sums, tile, row, rows)              writes the results of these rows from the staged sums
#pragma once

#include "cuda/mma_tiles.h"
#include "cuda/norm_row.h"

namespace swarr {

// `stages`: tiles of the weights in shared memory, kStep of k each.
template <int rows, int columns, int warp_rows, int warp_columns, int stages>
struct FewShape {
  static constexpr int kRows = rows, kColumns = columns, kWarpRows = warp_rows, kWarpColumns = warp_columns;
  static constexpr int kStages = stages, kWarpsDown = rows / warp_rows;
  static constexpr int kThreads = kWarpsDown * (columns / warp_columns) * kWarp;
  static constexpr int kSumsStride = columns + 8;  // as in gemm_mma.cu
  static constexpr int kStageElements = columns * kStep, kPanelElements = rows * kStep;
  // The sums, and the same rounded, take the place of the weights.
  static_assert(rows * (kSumsStride * sizeof(float) + columns * sizeof(BFloat16)) <=
                stages * kStageElements * sizeof(BFloat16));

  // The weights, the rows of x, and the weights of their norm.
  static constexpr std::size_t SharedBytes(std::int64_t depth) {
    const std::int64_t steps = Blocks(depth, kStep);
    return static_cast<std::size_t>(stages * kStageElements + steps * (kPanelElements + kStep)) * sizeof(BFloat16);
  }
};

// x [rows, depth]; with norm[depth] what is multiplied is RmsNorm(x), rounded. depth is a multiple of kChunk, and all
// rows are at multiples of 16 bytes.
struct FewRows {
  const BFloat16* x;
  int rows, depth;
  const BFloat16* norm = nullptr;
  float eps = 0;
};

// Begins to copy lines of up to kStep elements to a tile; row_of(line) is null where there are zeros. `depth`: elements
// that are left in each line.
template <int kLines, int kBlock, class F>
__device__ inline void CopyLines(BFloat16* tile, int depth, const BFloat16* any, F&& row_of) {
  constexpr int kChunks = kStep / kChunk, kPass = kBlock / kChunks;
  static_assert(kLines % kPass == 0 || kLines < kPass);
  const int chunk = static_cast<int>(threadIdx.x) % kChunks * kChunk;
#pragma unroll
  for (int first = 0; first < kLines; first += kPass) {
    const int line = first + static_cast<int>(threadIdx.x) / kChunks;
    if (kLines < kPass && line >= kLines) return;
    const BFloat16* row = row_of(line);
    const bool copy = row != nullptr && chunk < depth;
    CopyAsync16(tile + line * kStep + (chunk ^ line % 8 * kChunk), copy ? row + chunk : any, copy ? 16 : 0);
  }
}

// A run of staged sums, which begins at a multiple of 16 bytes.
template <int k>
__device__ inline void LoadSums(float (&run)[k], const float* from) {
#pragma unroll
  for (int i = 0; i < k; i += 4) *reinterpret_cast<float4*>(run + i) = *reinterpret_cast<const float4*>(from + i);
}

// Norms rows of x in place.
template <class S>
__device__ void NormRows(BFloat16* x, const BFloat16* weights, int rows, int depth, float eps) {
  const auto at = [&](int row, int c) {
    return x + c / kStep * S::kPanelElements + row * kStep + (c % kStep / kChunk ^ row % 8) * kChunk + c % kChunk;
  };
  constexpr int kWarps = S::kThreads / kWarp, kAtOnce = S::kRows / kWarps < 4 ? S::kRows / kWarps : 4;
  for (int first = static_cast<int>(threadIdx.x) / kWarp * kAtOnce; first < rows; first += kWarps * kAtOnce) {
    NormRowsInPlace<kAtOnce>(depth, eps, weights, [&](int i, int c) { return at(first + i, c); });
  }
}

template <class S, class Layer>
__global__ void __launch_bounds__(S::kThreads) FewRowsKernel(Layer layer, FewRows in) {
  extern __shared__ uint4 shared[];
  const int steps = static_cast<int>(Blocks(in.depth, kStep)), tile = static_cast<int>(blockIdx.x),
            row = static_cast<int>(blockIdx.y) * S::kRows, rows = min(S::kRows, in.rows - row);
  BFloat16 *ring = reinterpret_cast<BFloat16*>(shared), *x = ring + S::kStages * S::kStageElements,
           *norm = x + steps * S::kPanelElements;
  const auto stage = [&](int step) { return ring + step % S::kStages * S::kStageElements; };
  const auto copy = [&](int step) {
    if (step >= steps) return;
    CopyLines<S::kColumns, S::kThreads>(stage(step), in.depth - step * kStep, in.x, [&](int column) {
      const BFloat16* from = layer.template WeightRow<S>(tile, column);
      return from ? from + step * kStep : nullptr;
    });
  };
  LetNextBegin();
  for (int step = 0; step < S::kStages; ++step) copy(step);
  if (in.norm) {
    for (int c = static_cast<int>(threadIdx.x) * kChunk; c < in.depth; c += S::kThreads * kChunk) {
      CopyAsync16(norm + c, in.norm + c);
    }
  }
  WaitForPrevious();
  for (int step = 0; step < steps; ++step) {
    CopyLines<S::kRows, S::kThreads>(x + step * S::kPanelElements, in.depth - step * kStep, in.x, [&](int line) {
      return line < rows ? in.x + std::int64_t{row + line} * in.depth + step * kStep : nullptr;
    });
  }
  CommitCopies();
  WaitCopies<0>();
  __syncthreads();
  if (in.norm) {
    NormRows<S>(x, norm, rows, in.depth, in.eps);
    __syncthreads();
  }

  const unsigned warp = threadIdx.x / kWarp, warp_row = warp % S::kWarpsDown * S::kWarpRows,
                 warp_column = warp / S::kWarpsDown * S::kWarpColumns;
  Sums<S> sums = {};
  Slices<S> slices[2];  // as in gemm_mma.cu
  const auto load = [&](int step, int slice) {
    slices[slice % 2].template Load<Tile<S::kRows, false>, Tile<S::kColumns, false>>(
        x + step * S::kPanelElements, stage(step), warp_row, warp_column, slice * kSlice);
  };
  const bool streams = steps > S::kStages;  // else all weights are there
  load(0, 0);
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int slice = 0; slice < kSlices - 1; ++slice) {
      load(step, slice + 1);
      slices[slice % 2].MultiplyAdd(sums);
    }
    if (streams) {
      WaitCopies<S::kStages - 2>();
      __syncthreads();
      copy(step + S::kStages);
      CommitCopies();
    }
    if (step + 1 < steps) load(step + 1, 0);
    slices[(kSlices - 1) % 2].MultiplyAdd(sums);
  }
  __syncthreads();
  auto* staged = reinterpret_cast<float*>(shared);
  StageSums<S>(staged, sums, warp_row, warp_column);
  __syncthreads();
  layer.template Store<S>(staged, tile, row, rows);
}

}  // namespace swarr
