// SPDX-License-Identifier: Apache-2.0
// Products in bf16 on tensor cores (cuda/mma.h), summed in f32; called by gemm.cu.
//
// A block computes a tile of c; each of its warps computes a part. Tiles of the operands, 64 of k deep, stream into
// shared memory, a few of them ahead of the one that is multiplied. An operand that is stored as it is has rows of 64 k
// there. A transposed one has 64 rows of k, and is transposed on its way to the registers. At the end the sums go
// through shared memory, so that bias, addend and c are read and written in whole rows.
//
// Every element is the same chain of multiply-accumulate instructions, each of 16 k, ascending, padded with zeros to a
// multiple of 64. That does not depend on the shape of the tile, which is chosen for speed and may depend on the number
// of rows. Operands whose rows don't begin at multiples of 16 bytes are loaded element by element. Left out: Hopper's
// own instructions and blocks that live on for another tile, which gemm_wgmma.cu has.
#include <algorithm>
#include <array>
#include <limits>

#include "cuda/gemm.h"
#include "cuda/mma_tiles.h"

namespace swarr {
namespace {

// A block's tile of c and its warps' shares. `stages`: tiles of both operands in shared memory. `blocks`: how many are
// to fit on a multiprocessor. `rate`: the speed in proportion to the size of the tile, in percent.
template <int rows, int columns, int warp_rows, int warp_columns, int stages, int blocks, int rate>
struct Shape {
  static constexpr int kRows = rows, kColumns = columns, kWarpRows = warp_rows, kWarpColumns = warp_columns;
  static constexpr int kStages = stages, kBlocks = blocks, kRate = rate;
  static constexpr int kWarpsDown = rows / warp_rows, kThreads = kWarpsDown * (columns / warp_columns) * kWarp;
  static constexpr int kStageElements = (rows + columns) * kStep;
  static constexpr int kSharedBytes = stages * kStageElements * static_cast<int>(sizeof(BFloat16));
  // The pitch of staged sums: 8 more than the columns, so that rows that a warp writes at once lie in different banks.
  static constexpr int kSumsStride = columns + 8;
  static_assert(rows * kSumsStride * static_cast<int>(sizeof(float)) <= kSharedBytes);
};

using Huge = Shape<128, 256, 64, 64, 4, 1, 100>;
using Large = Shape<128, 192, 64, 48, 4, 1, 95>;
using Square = Shape<128, 128, 64, 64, 3, 2, 90>;
using Medium = Shape<64, 64, 32, 32, 4, 3, 50>;
using Flat = Shape<16, 64, 16, 16, 8, 2, 20>;  // of few rows

// Copies up to 8 elements one by one, then zeros.
__device__ inline void CopySlowly(BFloat16* to, const BFloat16* from, int valid) {
  std::uint32_t words[kChunk / 2];
#pragma unroll
  for (int i = 0; i < kChunk / 2; ++i) {
    const std::uint32_t low = 2 * i < valid ? from[2 * i].bits : 0, high = 2 * i + 1 < valid ? from[2 * i + 1].bits : 0;
    words[i] = low | high << 16;
  }
  *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// Copies the tile at (row, k) of an operand that ends before (row_end, k_end); zeros stand for what is beyond. A thread
// copies the same chunk of every kPass-th line.
template <int kSize, bool kTransposed, bool kFast, int kBlock>
__device__ void CopyTile(BFloat16* to, const Operand<BFloat16>& from, std::int64_t row, std::int64_t row_end,
                         std::int64_t k, std::int64_t k_end) {
  using To = Tile<kSize, kTransposed>;
  constexpr int kPass = kBlock * kChunk / kPanel;
  static_assert(To::kLines % kPass == 0 && kPass % 8 == 0);
  const unsigned line = threadIdx.x * kChunk / kPanel, element = threadIdx.x * kChunk % kPanel;
  const int rows = static_cast<int>(min(std::int64_t{kSize}, row_end - row)),
            depth = static_cast<int>(min(std::int64_t{kStep}, k_end - k));
  const int lines = (kTransposed ? depth : rows) - static_cast<int>(line),
            length = (kTransposed ? rows : depth) - static_cast<int>(element);
  const BFloat16* source =
      from.data + (kTransposed ? (k + line) * from.stride + row : (row + line) * from.stride + k) + element;
  to += To::Offset(line, line % 8, element);
#pragma unroll(kFast ? To::kLines / kPass : 1)
  for (int first = 0; first < To::kLines; first += kPass) {
#pragma unroll
    for (int panel = 0; panel < To::kPanels; ++panel) {
      const int valid = first < lines ? max(0, min(kChunk, length - panel * kPanel)) : 0;
      BFloat16* chunk = to + (panel * To::kLines + first) * kPanel;
      const BFloat16* at = valid > 0 ? source + panel * kPanel : from.data;
      if constexpr (kFast) {
        CopyAsync16(chunk, at, valid * static_cast<int>(sizeof(BFloat16)));
      } else {
        CopySlowly(chunk, at, valid);
      }
    }
    source += kPass * from.stride;
  }
}

// c = (sums + bias) + addend, from the staged sums, in runs of 16 bytes of c. `whole`: every run lies within a row and
// starts at a multiple of 16 bytes.
template <class S, class Out>
__device__ void StoreTile(const Product<BFloat16, Out>& p, bool whole, TileOrigin origin, const float* staged) {
  constexpr int kRun = 16 / sizeof(Out), kRuns = S::kColumns / kRun;
  for (int at = static_cast<int>(threadIdx.x); at < S::kRows * kRuns; at += S::kThreads) {
    const std::int64_t row = origin.row + at / kRuns, column = origin.column + at % kRuns * kRun;
    if (row >= p.rows || column >= p.columns) continue;
    const float* from = staged + at / kRuns * S::kSumsStride + at % kRuns * kRun;
    float sums[kRun];
#pragma unroll
    for (int i = 0; i < kRun; ++i) sums[i] = from[i];
    const std::int64_t begin = row * p.columns;
    if (p.bias) AddRun(sums, LoadPack<kRun>(p.bias, column, p.columns, /*aligned=*/false));
    if (p.addend) AddRun(sums, LoadPack<kRun>(p.addend + begin, column, p.columns, whole));
    Out* to = p.c + begin + column;
    if (whole) {
      StoreRun(to, sums);
      continue;
    }
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
      if (column + i < p.columns) to[i] = static_cast<Out>(sums[i]);
    }
  }
}

// The factors of a step, and its k of theirs.
struct StepFactors {
  Factors<BFloat16> factors;
  std::int64_t k;
};
template <bool kMore, class Out>
__device__ StepFactors FactorsOf(const Product<BFloat16, Out>& p, std::int64_t begin, std::int64_t end, int step) {
  const auto first = static_cast<int>(Blocks(end - begin, kStep));
  if (!kMore || step < first) return {{p.a, p.b, end}, begin + std::int64_t{step} * kStep};
  step -= first;
  StepFactors of{p.more[0], std::int64_t{step} * kStep};
  for (int i = 1; i < kMostFactors - 1 && of.k >= of.factors.depth; ++i) {
    of.k -= Blocks(of.factors.depth, kStep) * kStep;
    of.factors = p.more[i];
  }
  return of;
}

// Grid: the tiles of c, 1, the parts of k.
template <class S, bool kTransposedA, bool kTransposedB, bool kFast, class Out>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) ProductKernel(Product<BFloat16, Out> p, bool whole) {
  extern __shared__ uint4 shared[];
  auto* tiles = reinterpret_cast<BFloat16*>(shared);
  const TileOrigin origin = OriginOfTile(blockIdx.x, p.rows, p.columns, S::kRows, S::kColumns);
  const std::int64_t begin = blockIdx.z * p.part_depth, end = min(p.depth, begin + p.part_depth);
  int steps = static_cast<int>(Blocks(end - begin, kStep));
  for (const auto& factors : p.more) steps += static_cast<int>(Blocks(factors.depth, kStep));
  p.c += blockIdx.z * p.rows * p.columns;

  const auto stage = [&](int step) { return tiles + step % S::kStages * S::kStageElements; };
  const auto copy = [&](int step) {
    if (step < steps) {
      const auto& [factors, k] = FactorsOf < !kTransposedA && kTransposedB > (p, begin, end, step);
      CopyTile<S::kRows, kTransposedA, kFast, S::kThreads>(stage(step), factors.a, origin.row, p.rows, k,
                                                           factors.depth);
      CopyTile<S::kColumns, kTransposedB, kFast, S::kThreads>(stage(step) + S::kRows * kStep, factors.b, origin.column,
                                                              p.columns, k, factors.depth);
    }
    CommitCopies();  // an empty group as well, so that groups can be counted from the last one
  };
  for (int step = 0; step < S::kStages; ++step) copy(step);

  const unsigned warp = threadIdx.x / kWarp, row = warp % S::kWarpsDown * S::kWarpRows,
                 column = warp / S::kWarpsDown * S::kWarpColumns;
  Sums<S> sums = {};
  Slices<S> slices[2];  // the one that is multiplied, and the next, on its way from shared memory
  const auto load = [&](int step, int slice) {
    slices[slice % 2].template Load<Tile<S::kRows, kTransposedA>, Tile<S::kColumns, kTransposedB>>(
        stage(step), stage(step) + S::kRows * kStep, row, column, slice * kSlice);
  };
  WaitCopies<S::kStages - 1>();
  __syncthreads();
  if (steps > 0) load(0, 0);
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int slice = 0; slice < kSlices - 1; ++slice) {
      load(step, slice + 1);
      slices[slice % 2].MultiplyAdd(sums);
    }
    // The last slice is in registers. When all threads are here, this step's stage is free and the next has arrived.
    WaitCopies<S::kStages - 2>();
    __syncthreads();
    copy(step + S::kStages);
    if (step + 1 < steps) load(step + 1, 0);
    slices[(kSlices - 1) % 2].MultiplyAdd(sums);
  }
  __syncthreads();
  auto* staged = reinterpret_cast<float*>(shared);
  StageSums<S>(staged, sums, row, column);
  __syncthreads();
  StoreTile<S>(p, whole, origin, staged);
}

template <class S, bool kTransposedA, bool kTransposedB, bool kFast, class Out>
void LaunchProduct(const Context& ctx, const Product<BFloat16, Out>& p) {
  const std::int64_t tiles = Blocks(p.rows, S::kRows) * Blocks(p.columns, S::kColumns);
  const bool whole = RowsAligned<kPack<Out>>(p.columns, p.c, p.addend);
  const dim3 grid(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(p.parts()));
  Launch(ctx, {grid, S::kThreads, S::kSharedBytes}, ProductKernel<S, kTransposedA, kTransposedB, kFast, Out>, p, whole);
}

// The cost of a shape: the size of the tiles that the busiest multiprocessor computes, divided by the shape's rate.
// Older devices lack the shared memory for some shapes.
template <class S, class Out>
std::int64_t CostOf(const Context& ctx, const Product<BFloat16, Out>& p) {
  if (S::kSharedBytes > ctx.stream->shared_memory) return std::numeric_limits<std::int64_t>::max();
  const std::int64_t tiles = Blocks(p.rows, S::kRows) * Blocks(p.columns, S::kColumns) * p.parts();
  return Blocks(tiles, std::max(1, ctx.stream->multiprocessors)) * S::kRows * S::kColumns * 100 / S::kRate;
}

// Launches the cheapest of these shapes.
template <bool kTransposedA, bool kTransposedB, class... Shapes, class Out>
void LaunchCheapest(const Context& ctx, const Product<BFloat16, Out>& p) {
  const std::array costs{CostOf<Shapes>(ctx, p)...};
  const auto cheapest = std::min_element(costs.begin(), costs.end()) - costs.begin();
  std::int64_t i = 0;
  ((i++ == cheapest ? LaunchProduct<Shapes, kTransposedA, kTransposedB, true>(ctx, p) : void()), ...);
}

template <bool kTransposedA, bool kTransposedB, class Out>
void Multiply(const Context& ctx, const Product<BFloat16, Out>& p) {
  if (!OperandsAligned<kChunk>(p)) return LaunchProduct<Medium, kTransposedA, kTransposedB, false>(ctx, p);
  if constexpr (kTransposedA) {  // the flat tile is too low for the lines of such an a, which have kPanel rows
    LaunchCheapest<kTransposedA, kTransposedB, Huge, Large, Square, Medium>(ctx, p);
  } else {
    LaunchCheapest<kTransposedA, kTransposedB, Huge, Large, Square, Medium, Flat>(ctx, p);
  }
}

}  // namespace

template <class Out>
void MultiplyOnTensorCores(const Context& ctx, const Product<BFloat16, Out>& p) {
  if (p.a.transposed) return Multiply<true, true>(ctx, p);
  if (p.b.transposed) return Multiply<false, true>(ctx, p);
  Multiply<false, false>(ctx, p);
}

template void MultiplyOnTensorCores(const Context&, const Product<BFloat16, BFloat16>&);
template void MultiplyOnTensorCores(const Context&, const Product<BFloat16, float>&);

}  // namespace swarr
