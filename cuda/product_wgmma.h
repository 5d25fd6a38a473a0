// SPDX-License-Identifier: Apache-2.0
// Products in bf16 by Hopper's warpgroups (cuda/wgmma.h): what gemm_wgmma.cu and head_wgmma.cu share, all but what is
// done with a tile's sums. The plain twin is gemm_mma.cu: the same bits, one warp at a time. Every element is again one
// chain of instructions of 16 k each, ascending, padded with zeros to a multiple of 64, and the two instructions agree
// bit for bit (cuda_gemm_test.cc compares them).
//
// A block lives on from tile to tile of c. One of its three groups of 128 threads feeds: its first thread has the copy
// engine bring tiles of the operands, 64 of k deep, into a ring of stages in shared memory. The other two groups
// multiply. A group may have half of each tile of c; the tiles are then as large as possible, and little is read twice.
// Or the groups take whole tiles in turns, and while one stores its sums the other multiplies: better where the depth
// is small.
//
//   full[stage]   the stage's bytes have arrived
//   empty[stage]  all groups that multiply the stage are done with it
//   turns[group]  the other group has begun its last product, so that this one may begin
#pragma once

#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/pack.h"
#include "cuda/wgmma.h"

namespace swarr {
namespace {

constexpr int kStep = 64;   // k of a stage
constexpr int kRows = 128;  // of a tile of c

// `turns`: the groups take whole tiles in turns. `rate`: the speed in proportion to the size of the tile, in percent.
template <int columns, int stages, bool turns, int rate>
struct Shape {
  static constexpr int kColumns = columns, kStages = stages, kRate = rate;
  static constexpr bool kTurns = turns;
  static constexpr int kHalves = turns ? 2 : 1;  // halves of a tile that a group multiplies, of kPanel rows
  static constexpr int kBytesA = kRows * kLineBytes, kStageBytes = kBytesA + columns * kLineBytes;
  static constexpr int kSharedBytes = stages * kStageBytes + 1024;  // stages begin at multiples of 1024
};
using Wide = Shape<256, 4, false, 100>;
using Large = Shape<192, 5, true, 104>;
using Square = Shape<128, 6, true, 88>;

// Brings the tile at (row, k) of an operand: kSize lines of 64 k, or, if it is transposed, panels of 64 rows with 64
// lines.
template <int kSize, bool kTransposed>
__device__ void CopyTile(char* to, const CUtensorMap& matrix, std::int64_t row, std::int64_t k, std::uint64_t* full) {
  const int r = static_cast<int>(row), d = static_cast<int>(k);
  if constexpr (kTransposed) {
#pragma unroll
    for (int panel = 0; panel < kSize / kPanel; ++panel) {
      CopyBox(to + panel * kPanelBytes, matrix, r + panel * kPanel, d, full);
    }
  } else {
    CopyBox(to, matrix, d, r, full);
  }
}

// The 4 x 4 words that four neighbouring lanes hold, four each, transposed.
__device__ inline void TransposeWords(std::uint32_t (&words)[4]) {
#pragma unroll
  for (unsigned distance = 1; distance <= 2; distance *= 2) {
    const bool second = (threadIdx.x & distance) != 0;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      if (i & distance) continue;
      const std::uint32_t sent = second ? words[i] : words[i + distance],
                          received = __shfl_xor_sync(0xffffffffu, sent, distance);
      (second ? words[i] : words[i + distance]) = received;
    }
  }
}

// A lane's sums in 4 blocks of 8 columns, a pair in each, of one row. All lanes call; rows and columns may lie beyond
// c.
struct Quad {
  float at[8];

  __device__ void AddBias(const BFloat16* bias, std::int64_t column, std::int64_t columns) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::int64_t c = column + i * 8 + threadIdx.x % 4 * 2;
      if (c >= columns) return;
      at[2 * i] += float(bias[c]);
      at[2 * i + 1] += float(bias[c + 1]);
    }
  }
  // bf16 is read and written in runs of 8: lane l of four has block l of the quad there.
  __device__ void Add(uint4 run) {
    std::uint32_t words[4] = {run.x, run.y, run.z, run.w};
    TransposeWords(words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      at[2 * i] += __uint_as_float(words[i] << 16);
      at[2 * i + 1] += __uint_as_float(words[i] & 0xffff0000u);
    }
  }
  __device__ void Store(BFloat16* run, bool inside) const {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = RoundPair(at[2 * i], at[2 * i + 1]);
    TransposeWords(words);
    if (inside) *reinterpret_cast<uint4*>(run) = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

// The ring of stages, and a block's way through the tiles of c and the parts of k.
template <class S>
struct Ring {
  char* stages;
  std::uint64_t *full, *empty;
  unsigned round = 0;  // of all stages fed or multiplied so far by this block

  __device__ unsigned index() const { return round % S::kStages; }
  __device__ unsigned parity() const { return round / S::kStages % 2; }
  __device__ char* stage() const { return stages + index() * S::kStageBytes; }
  __device__ std::uint64_t* before() const { return empty + (round - 1) % S::kStages; }
};

// What a block works on: a tile of c and a part of k.
struct Work {
  TileOrigin origin;
  std::int64_t part, begin, end;  // end: of k
  template <class S, class Out>
  static __device__ Work At(unsigned index, unsigned tiles, const Product<BFloat16, Out>& p) {
    const std::int64_t part = index / tiles, begin = part * p.part_depth;
    return {OriginOfTile(index % tiles, p.rows, p.columns, kRows, S::kColumns), part, begin,
            min(p.depth, begin + p.part_depth)};
  }
};

// sums = a b^T over the depth of the work, by one group. `row`: the first of its rows in the tile.
template <class S, bool kTransposedA, bool kTransposedB>
__device__ void MultiplyStages(Ring<S>& ring, const Work& work, unsigned row,
                               float (&sums)[S::kHalves][S::kColumns / 2], std::uint64_t* next_turn) {
  for (std::int64_t k = work.begin; k < work.end; k += kStep, ++ring.round) {
    WaitBarrier(ring.full + ring.index(), ring.parity());
    const std::uint64_t a = Describe(ring.stage() + row / kPanel * kPanelBytes),
                        b = Describe(ring.stage() + S::kBytesA);
    FenceSums();
#pragma unroll
    for (int slice = 0; slice < kStep / 16; ++slice) {
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half) {
        MultiplyAccumulateGroup<kTransposedA, kTransposedB>(
            sums[half], a + half * (kPanelBytes / 16) + slice * kNextSlice<kTransposedA>,
            b + slice * kNextSlice<kTransposedB>, k > work.begin || slice > 0);
      }
    }
    CommitProducts();
    if (k == work.begin) continue;
    WaitProducts<1>();  // the products of the stage before
    if (threadIdx.x % kGroup == 0) Arrive(ring.before());
  }
  if (S::kTurns && threadIdx.x % kGroup == 0) Arrive(next_turn);
  WaitProducts<0>();
  if (threadIdx.x % kGroup == 0) Arrive(ring.before());
}

// `end` takes the sums: end.Take<columns>(product, origin, sums) is called for every 64 rows of a tile by the group
// that has them. `works`: tiles of c times parts of k. Grid: at most one block for each multiprocessor.
template <class S, bool kTransposedA, bool kTransposedB, class Out, class End>
__global__ void __launch_bounds__(3 * kGroup, 1)
    ProductKernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                  Product<BFloat16, Out> p, End end, unsigned tiles, unsigned works) {
  extern __shared__ char shared[];
  __shared__ std::uint64_t full[S::kStages], empty[S::kStages], turns[2];
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      InitBarrier(full + i, 1);
      InitBarrier(empty + i, S::kTurns ? 1 : 2);
    }
    for (std::uint64_t& turn : turns) InitBarrier(&turn, 1);
    ShowBarriers();
  }
  __syncthreads();
  WaitForPrevious();
  Ring<S> ring{shared + (1024 - SharedAddress(shared) % 1024) % 1024, full, empty};
  const unsigned group = threadIdx.x / kGroup;
  if (group == 2) {
    ShrinkRegisters<24>();
    if (threadIdx.x % kGroup != 0) return;
    for (unsigned i = blockIdx.x; i < works; i += gridDim.x) {
      const Work work = Work::At<S>(i, tiles, p);
      for (std::int64_t k = work.begin; k < work.end; k += kStep, ++ring.round) {
        WaitBarrier(empty + ring.index(), ring.parity() ^ 1);
        ArriveAndExpect(full + ring.index(), S::kStageBytes);
        CopyTile<kRows, kTransposedA>(ring.stage(), a, work.origin.row, k, full + ring.index());
        CopyTile<S::kColumns, kTransposedB>(ring.stage() + S::kBytesA, b, work.origin.column, k, full + ring.index());
      }
    }
  } else {
    GrowRegisters<240>();
    unsigned turn = 0;
    for (unsigned i = blockIdx.x; i < works; i += gridDim.x, ++turn) {
      Work work = Work::At<S>(i, tiles, p);
      if (S::kTurns && turn % 2 != group) {
        ring.round += static_cast<unsigned>(Blocks(work.end - work.begin, kStep));
        continue;
      }
      // The first turn of the first group is open.
      if (S::kTurns) WaitBarrier(turns + group, turn / 2 % 2 ^ (group == 0 ? 1 : 0));
      const unsigned row = S::kTurns ? 0 : group * kPanel;
      float sums[S::kHalves][S::kColumns / 2];
      MultiplyStages<S, kTransposedA, kTransposedB>(ring, work, row, sums, turns + (group ^ 1));
      Product<BFloat16, Out> part = p;
      part.c += work.part * p.rows * p.columns;
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half) {
        end.template Take<S::kColumns>(part, {work.origin.row + row + half * kPanel, work.origin.column}, sums[half]);
      }
    }
  }
}

// Describes an operand to the copy engine as it is stored.
CUtensorMap DescribeOperand(const Operand<BFloat16>& x, std::int64_t n, std::int64_t depth, int lines) {
  return DescribeMatrix(x.data, x.transposed ? depth : n, x.transposed ? n : depth, x.stride, lines);
}

template <class S, bool kTransposedA, bool kTransposedB, class Out, class End>
void LaunchProduct(const Context& ctx, const Product<BFloat16, Out>& p, const End& end) {
  const std::int64_t tiles = Blocks(p.rows, kRows) * Blocks(p.columns, S::kColumns), works = tiles * p.parts();
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(works, ctx.stream->multiprocessors));
  Launch(ctx, {blocks, 3 * kGroup, S::kSharedBytes, /*early=*/true},
         ProductKernel<S, kTransposedA, kTransposedB, Out, End>,
         DescribeOperand(p.a, p.rows, p.depth, kTransposedA ? kStep : kRows),
         DescribeOperand(p.b, p.columns, p.depth, kTransposedB ? kStep : S::kColumns), p, end,
         static_cast<unsigned>(tiles), static_cast<unsigned>(works));
}

}  // namespace
}  // namespace swarr
