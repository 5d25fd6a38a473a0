// SPDX-License-Identifier: Apache-2.0
// What follows attention in a layer, in one launch (model/fused.h): three products of few rows in bf16, where one after
// another would wait for the launch before and for its weights. 16 blocks on neighbouring multiprocessors, a cluster,
// have 64 rows from beginning to end. Each has a sixteenth of the columns of every product, and all weights of those
// in its shared memory; so the layer has to be a small one. A product takes all columns of the one before: blocks write
// theirs to memory, meet, and read all rows of the cluster, which the second-level cache has. (Each other's shared
// memory gives 4 to 11 bytes a cycle here, that cache some 40.)
//
// Products have rows first, as in gemm_wgmma.cu, and the same bits: every element is one chain of instructions over
// ascending k, rounded where the ops one after another would store it.
#include "cuda/decode/few_rows.h"
#include "cuda/decode/few_rows_launch.h"
#include "model/fused.h"

namespace swarr {
namespace {

constexpr int kClusterBlocks = 16;
// Rows as rmsnorm takes them: panels of 64 rows in shared memory, by 16 warps.
using ClusterRows = FewShape<1, kPanel, 16>;
// A block's columns of the output product and of the last one, and its gates, as many as units.
constexpr int kOwnColumns = 24, kOwnUnits = kPanel;
constexpr int kWidth = kOwnColumns * kClusterBlocks, kUnits = kOwnUnits * kClusterBlocks;  // 384 and 1024
constexpr int kWidthSteps = kWidth / kStep, kUnitSteps = kUnits / kStep;
constexpr int kGateGroups = 2, kUnitsOfGroup = kOwnUnits / kGateGroups;

constexpr int kOwnBytes = kOwnColumns * kLineBytes;  // of a step of the output product's weights and the last one's
constexpr int kGatesBytes = 2 * kPanelBytes;         // of a step of gates, and behind them ups

// Where a block's parts of shared memory begin, in bytes; output weights have so many steps. The units of all blocks,
// which the last product takes, lie where normed rows and gates have been.
struct ClusterPlaces {
  static constexpr int kLast = 0, kRows = kUnitSteps * kOwnBytes, kGates = kRows + kWidthSteps * kPanelBytes;
  static constexpr int kNorm = kGates + kWidthSteps * kGatesBytes, kOutput = kNorm + 1024;
  static_assert(kUnitSteps == kClusterBlocks && kNorm - kRows >= kUnitSteps * kPanelBytes && kWidth * 2 <= 1024);
  static constexpr int kBytes = kOutput + kWidthSteps * kOwnBytes;
};

// sums[64, 24] = a[64, 16] b[24, 16]^T, plus sums if `keep` (MultiplyAccumulateGroup, wgmma.h).
__device__ inline void MultiplyAccumulate24(float (&sums)[12], std::uint64_t a, std::uint64_t b, int keep) {
  asm volatile(
      "{ .reg .pred keep; setp.ne.b32 keep, %14, 0; wgmma.mma_async.sync.aligned.m64n24k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11}, %12, %13, keep, 1, 1, 0, 0; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]),
        "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11])
      : "l"(a), "l"(b), "r"(keep));
}

// Of a cluster: which block this is, and a barrier of all threads of all blocks, in two halves. What was stored before
// the first half, in any block's shared memory, is there after the second.
__device__ inline unsigned RankInCluster() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void ArriveAtCluster() { asm volatile("barrier.cluster.arrive.release;" : : : "memory"); }
__device__ inline void WaitForCluster() { asm volatile("barrier.cluster.wait.acquire;" : : : "memory"); }
// Waits until nobody needs this block any more: what it copies to others has arrived.
__device__ inline void LeaveCluster() {
  ArriveAtCluster();
  WaitForCluster();
}
// added = x + attended output^T, gated = SwiGlu(RmsNorm(added)), y = added + gated last^T.
struct ClusterLayer {
  CUtensorMap attended, output, added_rows, gate, up, gated_rows, last;
  const BFloat16 *x, *norm;
  BFloat16 *added, *gated, *y;
  float eps;
  int rows, output_steps;
};

// What has arrived: rows of attention with weights of the output product, the rows that are normed, gates with their
// units, weights of the last product, and its rows, for each step.
struct ClusterBarriers {
  std::uint64_t output, added, gates, last, gated[kUnitSteps];
};

// A thread's pairs of a product's [64, 24]: element (i / 2 * 8, i % 2 * 8 below) of those that wgmma.h says.
constexpr int kOwnPairs = kOwnColumns / 4;
// Calls f(i, row in the tile, column of the block) for each.
template <class F>
__device__ void ForOwnPairs(F&& f) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < kOwnPairs; ++i) f(i, row + i % 2 * 8, i / 2 * 8 + lane % 4 * 2);
}
// Asks for the first weights of block `rank`. A warp's first thread asks for a few boxes; one thread would take 2 us
// for all.
__device__ inline void FetchWeights(const ClusterLayer& layer, unsigned rank, char* shared, ClusterBarriers& barriers) {
  if (threadIdx.x % kWarp != 0) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, own = static_cast<int>(rank) * kOwnColumns;
  if (warp == 0) {
    ArriveAndExpect(&barriers.output, layer.output_steps * (kOwnBytes + kPanelBytes));
    ArriveAndExpect(&barriers.gates, kWidthSteps * kGatesBytes);
    ArriveAndExpect(&barriers.last, kUnitSteps * kOwnBytes);
    ArriveAndExpect(&barriers.added, kWidthSteps * kPanelBytes);
    for (std::uint64_t& barrier : barriers.gated) ArriveAndExpect(&barrier, kPanelBytes);
    PrefetchMatrix(layer.attended);
    PrefetchMatrix(layer.added_rows);
    PrefetchMatrix(layer.gated_rows);
  }
  if (warp < layer.output_steps) {
    CopyBox(shared + ClusterPlaces::kOutput + warp * kOwnBytes, layer.output, warp * kStep, own, &barriers.output);
  }
  for (int box = warp; box < kWidthSteps * 2 * kGateGroups; box += ClusterRows::kWarps) {
    const int step = box / (2 * kGateGroups), part = box % (2 * kGateGroups);
    CopyBox(shared + ClusterPlaces::kGates + step * kGatesBytes + part * kUnitsOfGroup * kLineBytes,
            part % 2 == 0 ? layer.gate : layer.up, step * kStep,
            static_cast<int>(rank) * kOwnUnits + part / 2 * kUnitsOfGroup, &barriers.gates);
  }
}
// The same for the weights of the last product, which have time. Asked for first, they would come before rows.
__device__ inline void FetchLast(const ClusterLayer& layer, unsigned rank, char* shared, ClusterBarriers& barriers) {
  static_assert(kUnitSteps == ClusterRows::kWarps && kUnitSteps == kClusterBlocks);
  if (threadIdx.x % kWarp != 0) return;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  CopyBox(shared + ClusterPlaces::kLast + warp * kOwnBytes, layer.last, warp * kStep,
          static_cast<int>(rank) * kOwnColumns, &barriers.last);
}

// sums = a step of rows by one of a block's weights, plus sums if `keep`.
__device__ inline void MultiplyOwn(float (&sums)[2 * kOwnPairs], const char* rows, const char* weights, bool keep) {
  const std::uint64_t a = Describe(rows), b = Describe(weights);
  FenceSums();
#pragma unroll
  for (int slice = 0; slice < kStep / 16; ++slice) {
    MultiplyAccumulate24(sums, Advance(a, slice * kNextSlice<false>), Advance(b, slice * kNextSlice<false>),
                         keep || slice > 0);
  }
  CommitProducts();
}

// A group's product of rows with a block's weights, plus the residual: `own`, which becomes the rounded result. It is
// stored to y, whose first row and column here is `begin`. wait(step) returns when the step's operands are there.
template <class Wait>
__device__ void AddProduct(std::uint32_t (&own)[kOwnPairs], BFloat16* y, std::int64_t begin, int rows_there, int steps,
                           const char* rows, const char* weights, Wait&& wait) {
  float sums[2 * kOwnPairs];
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait(step);
    MultiplyOwn(sums, rows + step * kPanelBytes, weights + step * kOwnBytes, step > 0);
  }
  WaitProducts<0>(sums);
  ForOwnPairs([&](int i, int r, int column) {
    own[i] =
        RoundPair(sums[2 * i] + __uint_as_float(own[i] << 16), sums[2 * i + 1] + __uint_as_float(own[i] & 0xffff0000u));
    if (r < rows_there) *reinterpret_cast<std::uint32_t*>(y + begin + r * kWidth + column) = own[i];
  });
}

// A group's units of normed rows, stored. More groups would read the rows as many times more, which takes longer.
__device__ inline void MakeUnits(const ClusterLayer& layer, const char* normed, const char* gates, int row, int unit) {
  float sums[kUnitsOfGroup];  // gates, then ups
  FenceSums();
#pragma unroll
  for (int i = 0; i < kWidth / 16; ++i) {
    constexpr int kSlices = kStep / 16;
    const int step = i / kSlices, slice = i % kSlices * kNextSlice<false>;
    MultiplyAccumulateGroup<false, false>(sums, Advance(Describe(normed), step * (kPanelBytes / 16) + slice),
                                          Advance(Describe(gates), step * (kGatesBytes / 16) + slice), i > 0);
  }
  CommitProducts();
  WaitProducts<0>(sums);
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            first = row + static_cast<int>(threadIdx.x) % kGroup / kWarp * 16 + lane / 4;
  const auto gated = [&](int i) {
    const auto rounded = [](float z) { return static_cast<float>(BFloat16(z)); };
    return Gated(rounded(sums[i]), rounded(sums[kUnitsOfGroup / 2 + i]));
  };
#pragma unroll
  for (int i = 0; i < kUnitsOfGroup / 2; i += 2) {
    const std::uint32_t pair = RoundPair(gated(i), gated(i + 1));
    const int r = first + i / 2 % 2 * 8, column = unit + i / 4 * 8 + lane % 4 * 2;
    if (r < layer.rows) *reinterpret_cast<std::uint32_t*>(layer.gated + std::int64_t{r} * kUnits + column) = pair;
  }
}

// Until all blocks of the cluster have stored what the copy engine is to bring to each of them.
__device__ inline void ShareStores() {
  asm volatile("fence.proxy.async.global;" : : : "memory");
  ArriveAtCluster();
  WaitForCluster();
  asm volatile("fence.proxy.async.global;" : : : "memory");
}

__global__ void __launch_bounds__(ClusterRows::kThreads, 1) ClusterKernel(const __grid_constant__ ClusterLayer layer) {
  using P = ClusterPlaces;
  extern __shared__ __align__(1024) char shared[];
  __shared__ ClusterBarriers barriers;
  const unsigned rank = RankInCluster();
  const int row = static_cast<int>(blockIdx.x) / kClusterBlocks * kPanel, group = GroupOfThread();
  if (threadIdx.x == 0) {
    for (auto* barrier : {&barriers.output, &barriers.added, &barriers.gates, &barriers.last}) InitBarrier(barrier, 1);
    for (std::uint64_t& barrier : barriers.gated) InitBarrier(&barrier, 1);
    ShowBarriers();
  }
  __syncthreads();
  ArriveAtCluster();  // so that others may copy to here, and arrive at these barriers
  FetchWeights(layer, rank, shared, barriers);
  auto* norm = reinterpret_cast<BFloat16*>(shared + P::kNorm);
  for (int c = static_cast<int>(threadIdx.x) * kChunk; c < kWidth; c += ClusterRows::kThreads * kChunk) {
    CopyAsync16(norm + c, layer.norm + c);
  }
  CommitCopies();
  LetNextBegin();
  WaitForCluster();
  WaitForPrevious();

  // Attention's output product, plus x.
  char* rows = shared + P::kRows;
  std::uint32_t own[kOwnPairs] = {};  // of the residual: first of x, then of what is added to it
  const std::int64_t begin = std::int64_t{row} * kWidth + static_cast<int>(rank) * kOwnColumns;
  const int rows_there = layer.rows - row;
  // Rows are the same for all blocks: each brings a step of them to all.
  const int step_of_block = static_cast<int>(rank);
  const auto bring = [&](const CUtensorMap& matrix, int steps, std::uint64_t* arrived) {
    if (threadIdx.x != 0 || step_of_block >= steps) return;
    CopyBoxToAll<kClusterBlocks>(rows + step_of_block * kPanelBytes, matrix, step_of_block * kStep, row, arrived);
  };
  bring(layer.attended, layer.output_steps, &barriers.output);
  if (group == 0) {
    ForOwnPairs([&](int i, int r, int column) {
      if (r < rows_there) own[i] = *reinterpret_cast<const std::uint32_t*>(layer.x + begin + r * kWidth + column);
    });
    WaitBarrier(&barriers.output, 0);
    AddProduct(own, layer.added, begin, rows_there, layer.output_steps, rows, shared + P::kOutput, [](int) {});
  }
  ShareStores();

  // Gates and units of the normed rows.
  bring(layer.added_rows, kWidthSteps, &barriers.added);
  FetchLast(layer, rank, shared, barriers);
  WaitCopies<0>();
  WaitBarrier(&barriers.added, 0);
  __syncthreads();
  NormRows<ClusterRows>(reinterpret_cast<BFloat16*>(rows), norm, kWidth, layer.eps);
  ShowStores();
  __syncthreads();
  if (group < kGateGroups) {
    WaitBarrier(&barriers.gates, 0);
    MakeUnits(layer, rows, shared + P::kGates + group * kPanelBytes, row,
              static_cast<int>(rank) * kOwnUnits + group * kUnitsOfGroup);
  }
  ShareStores();

  // The last product, plus its residual. Its rows take the place of normed ones, and of gates.
  bring(layer.gated_rows, kUnitSteps, barriers.gated + step_of_block);
  if (group != 0) return LeaveCluster();
  WaitBarrier(&barriers.last, 0);
  AddProduct(own, layer.y, begin, rows_there, kUnitSteps, rows, shared + P::kLast,
             [&](int step) { WaitBarrier(barriers.gated + step, 0); });
  LeaveCluster();
}

// Whether the device has so many neighbouring multiprocessors. Lets it run clusters that large.
bool ClustersFit() {
  SWARR_CUDA_CHECK(cudaFuncSetAttribute(ClusterKernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  SWARR_CUDA_CHECK(
      cudaFuncSetAttribute(ClusterKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, ClusterPlaces::kBytes));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kClusterBlocks, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = kClusterBlocks;
  config.blockDim = ClusterRows::kThreads;
  config.dynamicSmemBytes = ClusterPlaces::kBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  SWARR_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&clusters, ClusterKernel, &config));
  return clusters > 0;
}

}  // namespace

Tensor FusedRest(const Context& ctx, const NormedRows& in, const Tensor& attended, const RestWeights& w) {
  const std::int64_t N = in.x.dim(0), A = attended.dim(1);
  const auto aligned = [](const Tensor& t) { return Aligned<kChunk>(t.data<BFloat16>()); };
  if (!NormedRowsTake(ctx, in) || N <= kPanel || in.x.dim(1) != kWidth || w.gate.dim(0) != kUnits || A % kStep != 0 ||
      A > kWidth || !aligned(attended) || !aligned(w.output) || !aligned(w.gate) || !aligned(w.up) ||
      !aligned(w.down) || ClusterPlaces::kBytes > ctx.stream->shared_memory || !ClustersFit()) {
    return {};
  }
  const Tensor y = ctx.arena->New(DType::kBF16, {N, kWidth}), added = ctx.arena->NewLike(y),
               gated = ctx.arena->New(DType::kBF16, {N, kUnits});
  const ClusterLayer layer{.attended = MatrixOf(attended, kPanel),
                           .output = MatrixOf(w.output, kOwnColumns),
                           .added_rows = MatrixOf(added, kPanel),
                           .gate = MatrixOf(w.gate, kUnitsOfGroup),
                           .up = MatrixOf(w.up, kUnitsOfGroup),
                           .gated_rows = MatrixOf(gated, kPanel),
                           .last = MatrixOf(w.down, kOwnColumns),
                           .x = in.x.data<BFloat16>(),
                           .norm = in.weight.data<BFloat16>(),
                           .added = added.data<BFloat16>(),
                           .gated = gated.data<BFloat16>(),
                           .y = y.data<BFloat16>(),
                           .eps = static_cast<float>(in.eps),
                           .rows = static_cast<int>(N),
                           .output_steps = static_cast<int>(A / kStep)};
  Launch(ctx,
         {.blocks = Blocks(N, kPanel) * kClusterBlocks,
          .threads = ClusterRows::kThreads,
          .shared_bytes = ClusterPlaces::kBytes,
          .early = ctx.steady_weights,
          .cluster = kClusterBlocks},
         ClusterKernel, layer);
  return y;
}

}  // namespace swarr
