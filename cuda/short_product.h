// SPDX-License-Identifier: Apache-2.0
// Products in f32 of few tiles and short k, as small models have in training and in decoding: there the kernel of
// gemm.cu, whose block goes through k step by step, waits for memory at each. Here all of k lies in shared memory
// before the first product, so a block waits once; and tiles of 16 x 32 keep more multiprocessors busy.
//
// A block has four warps. Each takes four rows of the tile, and a lane one column: it reads its own line of weights,
// and all lanes read the same line of x. A sum is that of gemm.cu, bit for bit: it begins with what the layer says and
// takes products in ascending k by fma, padded with zeros to a multiple of 16.
//
// A Layer says what the columns are and what becomes of the sums:
//   void CopyWeights(const ShortDepth&, float* lines, int tile) const      begins to copy the lines of a tile's columns
//   float Begin(std::int64_t row, int tile, int lane) const
//   void Store(std::int64_t row, bool there, int tile, int lane, float sum) const      called by whole warps
#pragma once

#include "cuda/gemm.h"
#include "cuda/mma.h"
#include "cuda/norm_row.h"

namespace swarr {

constexpr int kShortRows = 16, kShortColumns = 32, kShortThreads = 128, kShortWarps = kShortThreads / kWarp;
constexpr int kRowsOfWarp = kShortRows / kShortWarps;

// The part of k that a block takes, and how far lines lie apart in shared memory: 16 bytes or 80 off a multiple of 128,
// so that eight lanes find their lines in different banks.
struct ShortDepth {
  std::int64_t begin;
  int depth, padded, pitch;

  __host__ __device__ ShortDepth(std::int64_t first, std::int64_t end)
      : begin(first), depth(static_cast<int>(end - first)), padded((depth + 15) / 16 * 16), pitch(padded + 4) {}
};

inline std::size_t ShortBytes(std::int64_t depth) {
  return sizeof(float) * (kShortRows + kShortColumns) * static_cast<std::size_t>(ShortDepth(0, depth).pitch);
}
// Two blocks share a multiprocessor.
inline bool ShortFits(const Context& ctx, std::int64_t depth) {
  return depth > 0 && depth < 4096 &&
         2 * (ShortBytes(depth) + 2048) <= static_cast<std::size_t>(ctx.stream->shared_memory);
}

// Begins to copy `lines` lines, line i from line_of(i) on, or none where that is null: a sum of such a line is not
// used. Behind the end of k there are zeros. `aligned`: lines begin at multiples of 16 bytes.
template <int lines, class F>
__device__ void CopyShortLines(float* to, const ShortDepth& k, bool aligned, F&& line_of) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = warp; i < lines; i += kShortWarps) {
    const float* line = line_of(i);
    if (!line) continue;
    float* at = to + i * k.pitch;
    for (int c = lane * 4; c < k.padded; c += kWarp * 4) {
      const int valid = max(0, min(4, k.depth - c));
      if (aligned) {
        CopyAsync16(at + c, valid > 0 ? line + c : line, valid * 4);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) CopyAsync4(at + c + j, j < valid ? line + c + j : line, j < valid ? 4 : 0);
      }
    }
  }
}

// The same of an operand's lines from `first` on, which ends before `end`.
template <int lines>
__device__ void CopyShortOperand(float* to, const ShortDepth& k, bool aligned, const Operand<float>& from,
                                 std::int64_t first, std::int64_t end) {
  if (!from.transposed) {
    return CopyShortLines<lines>(to, k, aligned, [&](int i) {
      return first + i < end ? from.data + (first + i) * from.stride + k.begin : nullptr;
    });
  }
  constexpr int kAtOnce = kShortThreads / lines;
  const int line = static_cast<int>(threadIdx.x) % lines;
  if (first + line >= end) return;
  const float* at = from.data + k.begin * from.stride + first + line;
  for (int d = static_cast<int>(threadIdx.x) / lines; d < k.padded; d += kAtOnce) {
    CopyAsync4(to + line * k.pitch + d, d < k.depth ? at + d * from.stride : at, d < k.depth ? 4 : 0);
  }
}

// x [rows, depth]. With norm[depth], what is multiplied is RmsNorm(x); k is not cut then.
struct ShortInput {
  Operand<float> x;
  std::int64_t rows, depth, part_depth;
  bool aligned = false;  // lines of x begin at multiples of 16 bytes
  bool steady = false;   // Context::steady_weights
  const float* norm = nullptr;
  float eps = 0;
};

// Grid: tiles of columns, tiles of rows, parts of k.
template <class Layer>
__global__ void __launch_bounds__(kShortThreads) ShortKernel(Layer layer, ShortInput in) {
  extern __shared__ uint4 shared[];
  const std::int64_t begin = blockIdx.z * in.part_depth, first = std::int64_t{blockIdx.y} * kShortRows;
  const ShortDepth k(begin, min(in.depth, begin + in.part_depth));
  float *x = reinterpret_cast<float*>(shared), *weights = x + kShortRows * k.pitch;
  const int tile = static_cast<int>(blockIdx.x), warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;
  LetNextBegin();
  if (!in.steady) WaitForPrevious();
  layer.CopyWeights(k, weights, tile);
  if (in.steady) WaitForPrevious();
  CopyShortOperand<kShortRows>(x, k, in.aligned, in.x, first, in.rows);
  CommitCopies();
  float sums[kRowsOfWarp];
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const std::int64_t row = first + warp * kRowsOfWarp + i;
    sums[i] = row < in.rows ? layer.Begin(row, tile, lane) : 0.0f;
  }
  WaitCopies<0>();
  __syncthreads();
  const float *rows = x + warp * kRowsOfWarp * k.pitch, *column = weights + lane * k.pitch;
  if (first + warp * kRowsOfWarp >= in.rows) return;
  if (in.norm) {
    NormRowsInPlace<kRowsOfWarp, float>(k.depth, in.eps, in.norm,
                                        [&](int i, int c) { return x + (warp * kRowsOfWarp + i) * k.pitch + c; });
    __syncwarp();
  }
#pragma unroll 4
  for (int d = 0; d < k.padded; d += 4) {
    const float4 w = *reinterpret_cast<const float4*>(column + d);
#pragma unroll
    for (int i = 0; i < kRowsOfWarp; ++i) {
      const float4 a = *reinterpret_cast<const float4*>(rows + i * k.pitch + d);
      sums[i] = fma(a.x, w.x, sums[i]);
      sums[i] = fma(a.y, w.y, sums[i]);
      sums[i] = fma(a.z, w.z, sums[i]);
      sums[i] = fma(a.w, w.w, sums[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kRowsOfWarp; ++i) {
    const std::int64_t row = first + warp * kRowsOfWarp + i;
    layer.Store(row, row < in.rows, tile, lane, sums[i]);
  }
}

template <class Layer>
void LaunchShort(const Context& ctx, const Layer& layer, const ShortInput& in, std::int64_t column_tiles) {
  const dim3 grid(static_cast<unsigned>(column_tiles), static_cast<unsigned>(Blocks(in.rows, kShortRows)),
                  static_cast<unsigned>(Blocks(in.depth, in.part_depth)));
  Launch(ctx, {grid, kShortThreads, ShortBytes(std::min(in.depth, in.part_depth)), /*early=*/true}, ShortKernel<Layer>,
         layer, in);
}

// Whether a product in f32 is to be taken by this kernel, and that (short_product.cu).
bool ShortProductTakes(const Context& ctx, const Product<float, float>& product);
void MultiplyShort(const Context& ctx, const Product<float, float>& product);

}  // namespace swarr
