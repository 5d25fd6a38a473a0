// SPDX-License-Identifier: Apache-2.0
// Tiles of the operands of a product in bf16, in shared memory, and a warp's share of their product (cuda/mma.h). For
// gemm_mma.cu, whose shapes S say kRows and kColumns of a block, kWarpRows and kWarpColumns of a warp, and kSumsStride,
// the pitch of staged sums.
#pragma once

#include "cuda/runs.h"

namespace swarr {

constexpr int kStep = 64;   // k of a tile
constexpr int kSlice = 16;  // k of an instruction
constexpr int kSlices = kStep / kSlice;
static_assert(kSlices % 2 == 0);  // the first slice of each step goes to the same registers
constexpr int kChunk = 8;         // elements of 16 bytes
constexpr int kPanel = 64;        // elements of a line of shared memory: 8 chunks, all banks

// A tile of an operand, kSize rows and kStep of k, in shared memory, in lines of kPanel elements. If the operand is
// stored as it is, a line is a row with its kStep of k. If it is transposed, a line is a k with kPanel rows, and other
// rows are in other panels of kStep lines. Chunk c of line l stands at the place of chunk c ^ (l % 8), so that 8 lines
// of one chunk lie in different banks.
template <int kSize, bool kTransposed>
struct Tile {
  static constexpr int kLines = kTransposed ? kStep : kSize, kPanels = kTransposed ? kSize / kPanel : 1;
  static_assert(kLines * kPanels * kPanel == kSize * kStep);

  // The place of element e of a line, where e is the first of a chunk.
  static __device__ unsigned Offset(unsigned line, unsigned line_mod_8, unsigned e) {
    return (e / kPanel * kLines + line) * kPanel + (e % kPanel ^ line_mod_8 * kChunk);
  }

  // Loads 16 rows and 16 k from (row, k) on, multiples of 16, as MultiplyAccumulate wants them for `a`. For `b` they
  // are twice 8 rows: the first in registers 0 and 2, the others in 1 and 3.
  static __device__ void LoadFragment(std::uint32_t (&to)[4], const BFloat16* tile, unsigned row, unsigned k) {
    const unsigned lane = threadIdx.x % kWarp, half = lane / 16 * 8;
    if constexpr (kTransposed) {
      LoadMatrix4Transposed(to, tile + Offset(k + half + lane % 8, lane % 8, row + lane / 8 % 2 * 8));
    } else {
      LoadMatrix4(to, tile + Offset(row + lane % 16, lane % 8, k + half));
    }
  }
};

// A warp's sums, [warp_rows, warp_columns]: for each 16 x 16, two accumulators of 16 x 8.
template <class S>
using Sums = float[S::kWarpRows / 16][S::kWarpColumns / 16][2][4];

// What a warp multiplies at a time: its rows of a and its columns of b, kSlice of k.
template <class S>
struct Slices {
  static constexpr int kDown = S::kWarpRows / 16, kAcross = S::kWarpColumns / 16;
  std::uint32_t a[kDown][4], b[kAcross][4];

  template <class TileA, class TileB>
  __device__ void Load(const BFloat16* a_tile, const BFloat16* b_tile, unsigned row, unsigned column, unsigned k) {
#pragma unroll
    for (int i = 0; i < kDown; ++i) TileA::LoadFragment(a[i], a_tile, row + i * 16, k);
#pragma unroll
    for (int j = 0; j < kAcross; ++j) TileB::LoadFragment(b[j], b_tile, column + j * 16, k);
  }
  __device__ void MultiplyAdd(Sums<S>& sums) const {
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
#pragma unroll
        for (int h = 0; h < 2; ++h) MultiplyAccumulate(sums[i][j][h], a[i], b[j][h], b[j][h + 2]);
      }
    }
  }
};

// Writes a warp's sums to shared memory.
template <class S>
__device__ void StageSums(float* staged, const Sums<S>& sums, unsigned row, unsigned column) {
  const unsigned lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < S::kWarpRows / 16; ++i) {
#pragma unroll
    for (int j = 0; j < S::kWarpColumns / 16; ++j) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float(&pair)[4] = sums[i][j][h];
        float* to = staged + (row + i * 16 + lane / 4) * S::kSumsStride + column + j * 16 + h * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(pair[0], pair[1]);
        *reinterpret_cast<float2*>(to + 8 * S::kSumsStride) = make_float2(pair[2], pair[3]);
      }
    }
  }
}

}  // namespace swarr
