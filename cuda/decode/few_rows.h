// SPDX-License-Identifier: Apache-2.0
// Products in bf16 of few rows with a layer's weights, as in decoding: c[rows, columns] = x[rows, depth] w^T, with the
// bits of gemm_mma.cu, since every element is the same chain of instructions over ascending k. What counts here is how
// soon a launch is done, and little else:
//
//   - Where weights are steady (context.h), a launch may begin before the launch before it is done (cuda.h). Its blocks
//     then fetch weights, and wait for x afterwards.
//   - All of a block's rows of x are in shared memory at once. They may be normed there, since a block has whole rows;
//     so the norm costs no launch.
//   - Sums pass through shared memory, where a whole head or a gate and its unit meet, and what follows the product is
//     done at once: residual, SwiGLU, rotary embedding, the storing of keys (few_rows.cu, few_rows_fused.cu).
//
// A block has a tile of c and goes through k once. `Layer` says which weights its columns have, and what becomes of the
// sums:
//   WeightRow<S>(tile, column)             the row of w of a column of a tile; null beyond the last
//   AsideBytes<S>()                        shared memory for what Store wants besides the sums: `aside`
//   FetchEarly<S>(aside, row, rows)        begins to copy there, for these rows, what no launch of the step writes
//   FetchLate<S>(aside, tile, row, rows)   the same for what the launch before may have written
//   Store<S>(sums, aside, tile, row, rows) writes the results of these rows from the staged sums
#pragma once

#include "cuda/mma_tiles.h"
#include "cuda/norm_row.h"

namespace swarr {

// `stages`: tiles of the weights in shared memory, kStep of k each, or fewer where k has fewer.
template <int rows, int columns, int warp_rows, int warp_columns, int stages>
struct FewShape {
  static constexpr int kRows = rows, kColumns = columns, kWarpRows = warp_rows, kWarpColumns = warp_columns;
  static constexpr int kStages = stages, kWarpsDown = rows / warp_rows;
  static constexpr int kWarps = kWarpsDown * (columns / warp_columns), kThreads = kWarps * kWarp;
  static constexpr int kSumsStride = columns + 8;  // as in gemm_mma.cu
  static constexpr int kStageElements = columns * kStep, kPanelElements = rows * kStep;
  // The sums, and the same rounded, take the place of the weights.
  static constexpr int kSumsElements = rows * (2 * kSumsStride + columns);

  __host__ __device__ static constexpr int RingElements(int steps) {
    const int ring = (steps < stages ? steps : stages) * kStageElements;
    return ring < kSumsElements ? kSumsElements : ring;
  }
  // The weights, the rows of x, and the weights of their norm.
  static constexpr std::size_t SharedBytes(std::int64_t depth) {
    const int steps = static_cast<int>(Blocks(depth, kStep));
    return static_cast<std::size_t>(RingElements(steps) + steps * (kPanelElements + kStep)) * sizeof(BFloat16);
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

// The lines of the weights' tiles that a thread copies: chunk `chunk` of each.
template <class S>
struct WeightLines {
  static constexpr int kChunks = kStep / kChunk, kPass = S::kThreads / kChunks, kLines = S::kColumns / kPass;
  static_assert(S::kColumns % kPass == 0 && kPass % 8 == 0);
  const BFloat16* lines[kLines];  // null where there are zeros
  int chunk, place;               // in a tile: of the first line's chunk

  template <class Layer>
  __device__ WeightLines(const Layer& layer, int tile) {
    const int first = static_cast<int>(threadIdx.x) / kChunks, at = static_cast<int>(threadIdx.x) % kChunks;
    chunk = at * kChunk;
    place = first * kStep + (at ^ (first % 8)) * kChunk;
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      const BFloat16* row = layer.template WeightRow<S>(tile, first + i * kPass);
      lines[i] = row ? row + chunk : nullptr;
    }
  }
  // Begins to copy step `step` of k to a tile; `any` is some address.
  __device__ void Copy(BFloat16* tile, int step, int depth, const BFloat16* any) const {
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      const bool copy = lines[i] != nullptr && chunk + step * kStep < depth;
      CopyAsync16(tile + place + i * kPass * kStep, copy ? lines[i] + step * kStep : any, copy ? 16 : 0);
    }
  }
};

// Begins to copy rows of x to panels of kStep of k; zeros stand behind the last k. A warp takes a row. Rows behind the
// last are left as they are, since rows of a product do not mix.
template <class S>
__device__ void CopyRowsOfX(BFloat16* x, const FewRows& in, int row, int rows, int steps) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int r = static_cast<int>(threadIdx.x) / kWarp; r < rows; r += S::kWarps) {
    const BFloat16* from = in.x + std::int64_t{row + r} * in.depth;
    BFloat16* to = x + lane / 8 * S::kPanelElements + r * kStep + ((lane % 8) ^ (r % 8)) * kChunk;
    for (int c = lane * kChunk; c < steps * kStep; c += kWarp * kChunk, to += 4 * S::kPanelElements) {
      CopyAsync16(to, c < in.depth ? from + c : in.x, c < in.depth ? 16 : 0);
    }
  }
}

// A run of staged sums, which begins at a multiple of 16 bytes.
template <int k>
__device__ inline void LoadSums(float (&run)[k], const float* from) {
#pragma unroll
  for (int i = 0; i < k; i += 4) *reinterpret_cast<float4*>(run + i) = *reinterpret_cast<const float4*>(from + i);
}

// Norms `count` rows of x in place, by one warp, with the bits of rmsnorm.cu: lane l takes the packs l, l + 32, ... of
// k elements, and a butterfly adds the lanes' sums of squares. A NaN becomes another one.
template <class S, int count, int k>
__device__ void NormRowsAs(BFloat16* x, const BFloat16* weights, int first, int depth, float eps) {
  using P = Pack<std::uint32_t, k / 2>;  // pairs of elements
  constexpr int kTurn = kWarp * k, kPanels = kTurn / kStep;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, begin = lane * k;
  const auto low = [](std::uint32_t pair) { return __uint_as_float(pair << 16); };
  const auto high = [](std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); };
  BFloat16* at[count];
#pragma unroll
  for (int i = 0; i < count; ++i) {
    at[i] = x + begin / kStep * S::kPanelElements + (first + i) * kStep +
            ((begin % kStep / kChunk) ^ ((first + i) % 8)) * kChunk + begin % kChunk;
  }
  float r[count] = {};
  for (int c = begin, turn = 0; c < depth; c += kTurn, turn += kPanels * S::kPanelElements) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const P pack = *reinterpret_cast<const P*>(at[i] + turn);
#pragma unroll
      for (const std::uint32_t pair : pack.at) {
        r[i] += low(pair) * low(pair);
        r[i] += high(pair) * high(pair);
      }
    }
  }
#pragma unroll
  for (float& sum : r) sum = InverseRms(WarpSum(sum), std::int64_t{depth}, eps);
  for (int c = begin, turn = 0; c < depth; c += kTurn, turn += kPanels * S::kPanelElements) {
    const P weight = *reinterpret_cast<const P*>(weights + c);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      P& pack = *reinterpret_cast<P*>(at[i] + turn);
      P normed = pack;
#pragma unroll
      for (int j = 0; j < k / 2; ++j) {
        normed.at[j] = RoundPair(Normed(low(normed.at[j]), r[i], low(weight.at[j])),
                                 Normed(high(normed.at[j]), r[i], high(weight.at[j])));
      }
      pack = normed;
    }
  }
}

// Norms all rows, several of a warp's at once where there are more rows than warps.
template <class S>
__device__ void NormRows(BFloat16* x, const BFloat16* weights, int rows, int depth, float eps) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  WithNormPack<BFloat16>(depth, [&]<int k>() {
    if (rows <= S::kWarps) {
      if (warp < rows) NormRowsAs<S, 1, k>(x, weights, warp, depth, eps);
      return;
    }
    constexpr int kAtOnce = S::kRows % (4 * S::kWarps) == 0 ? 4 : 2;
    for (int first = warp * kAtOnce; first < rows; first += S::kWarps * kAtOnce) {
      NormRowsAs<S, kAtOnce, k>(x, weights, first, depth, eps);
    }
  });
}

// Where a lane reads its parts of a warp's operands, 16 lines from the first on, in tiles with one layout (Tile).
struct LanePlaces {
  int line, slices[kSlices];  // in elements

  __device__ explicit LanePlaces(int first) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    line = (first + lane % 16) * kStep;
#pragma unroll
    for (int slice = 0; slice < kSlices; ++slice) slices[slice] = ((2 * slice + lane / 16) ^ (lane % 8)) * kChunk;
  }
};

template <class S, class Layer>
__global__ void __launch_bounds__(S::kThreads) FewRowsKernel(Layer layer, FewRows in) {
  extern __shared__ uint4 shared[];
  const int steps = static_cast<int>(Blocks(in.depth, kStep)), tile = static_cast<int>(blockIdx.x),
            row = static_cast<int>(blockIdx.y) * S::kRows, rows = min(S::kRows, in.rows - row);
  BFloat16 *ring = reinterpret_cast<BFloat16*>(shared), *x = ring + S::RingElements(steps),
           *norm = x + steps * S::kPanelElements, *aside = norm + steps * kStep;
  LetNextBegin();
  const WeightLines<S> weights(layer, tile);
  for (int step = 0; step < min(steps, S::kStages); ++step) {
    weights.Copy(ring + step * S::kStageElements, step, in.depth, in.x);
  }
  if (in.norm) {
    for (int c = static_cast<int>(threadIdx.x) * kChunk; c < in.depth; c += S::kThreads * kChunk) {
      CopyAsync16(norm + c, in.norm + c);
    }
  }
  layer.template FetchEarly<S>(aside, row, rows);
  WaitForPrevious();
  CopyRowsOfX<S>(x, in, row, rows, steps);
  layer.template FetchLate<S>(aside, tile, row, rows);
  CommitCopies();
  WaitCopies<0>();
  __syncthreads();
  if (in.norm) {
    NormRows<S>(x, norm, rows, in.depth, in.eps);
    __syncthreads();
  }

  const int warp = static_cast<int>(threadIdx.x) / kWarp, warp_row = warp % S::kWarpsDown * S::kWarpRows,
            warp_column = warp / S::kWarpsDown * S::kWarpColumns;
  Sums<S> sums = {};
  // Two slices are on their way while one is multiplied, and a slice's registers are filled again only two slices after
  // they were read.
  Slices<S> slices[kSlices];
  const LanePlaces a(warp_row), b(warp_column);
  const BFloat16 *x_at = x + a.line, *w_at = ring + b.line;
  const auto load = [&](int slice) {
    Slices<S>& to = slices[slice];
#pragma unroll
    for (int i = 0; i < Slices<S>::kDown; ++i) LoadMatrix4(to.a[i], x_at + i * 16 * kStep + a.slices[slice]);
#pragma unroll
    for (int j = 0; j < Slices<S>::kAcross; ++j) LoadMatrix4(to.b[j], w_at + j * 16 * kStep + b.slices[slice]);
  };
  const bool streams = steps > S::kStages;  // else all weights are there
  load(0);
  load(1);
#pragma unroll 1
  for (int step = 0, stage = 0; step < steps; ++step) {
    load(2);
    slices[0].MultiplyAdd(sums);
    load(3);
    slices[1].MultiplyAdd(sums);
    if (streams) {
      WaitCopies<S::kStages - 2>();
      __syncthreads();
      if (step + S::kStages < steps) {
        weights.Copy(ring + stage * S::kStageElements, step + S::kStages, in.depth, in.x);
      }
      CommitCopies();
    }
    stage = stage + 1 == S::kStages ? 0 : stage + 1;
    x_at += S::kPanelElements;
    w_at = ring + stage * S::kStageElements + b.line;
    if (step + 1 < steps) load(0);
    slices[2].MultiplyAdd(sums);
    if (step + 1 < steps) load(1);
    slices[3].MultiplyAdd(sums);
  }
  __syncthreads();
  auto* staged = reinterpret_cast<float*>(shared);
  StageSums<S>(staged, sums, warp_row, warp_column);
  __syncthreads();
  layer.template Store<S>(staged, aside, tile, row, rows);
}

}  // namespace swarr
