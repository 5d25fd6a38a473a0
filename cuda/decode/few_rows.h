// SPDX-License-Identifier: Apache-2.0
// Products in bf16 of few rows with a layer's weights, as in decoding: c[rows, columns] = x[rows, depth] w^T, by
// Hopper's warpgroups (cuda/wgmma.h). The bits are those of gemm_wgmma.cu and gemm_mma.cu, since every element is the
// same chain of instructions over ascending k. What counts here is how soon a launch is done, and little else:
//
//   - An instruction takes 64 rows of its first operand and as few as 8 of its second. So the weights are the first,
//     and c comes out transposed: a block has 64 columns of c for each of its groups, and 8 to 64 rows.
//   - Where weights are steady (context.h), a launch may begin before the launch before it is done (cuda.h). Its blocks
//     then fetch weights, and wait for x afterwards.
//   - Rows that are to be normed are in shared memory whole. Each block norms its own; so the norm costs no launch.
//   - Sums pass through shared memory, where a whole head or a gate and its unit meet, and what follows the product is
//     done at once: residual, SwiGLU, rotary embedding, the storing of keys (few_rows.cu, few_rows_fused.cu).
//
// A block goes through k once. The copy engine brings panels of 64 rows of the weights, 64 of k deep, into a ring of
// stages: all warps ask for the first ones, and then the first thread of each group for those of its group, or a warp
// that does not multiply where it has to wait for other blocks, too. Rows of x are brought whole where they are normed,
// and beside the weights where they are not. `Layer` says which weights a panel has, and what becomes of the sums:
//   kNormed                                whether x is normed
//   Lines(panel)                           how many lines the panel has, if not 64
//   ForBoxes(panel, f)                     f(matrix, row, line): from this row of a matrix on come the panel's lines
//   AsideBytes<S>()                        shared memory for what Store wants besides the sums: `aside`
//   LoadEarly(row, rows)                   what a thread loads before all else, of what no launch of the step writes
//   FetchEarly<S>(aside, row, rows, early) begins to copy such things there, for these rows
//   FetchLate<S>(aside, tile, row, rows)   the same for what the launch before may have written
//   Hold<S>(aside, tile, rows)             what a thread loads before the product and wants after it
//   Store<S>(sums, aside, tile, row, rows, held)   writes the results of these rows from the staged sums
// What the first and the third return, passed to the second and the last, is Nothing where a layer wants none.
#pragma once

#include "cuda/norm_row.h"
#include "cuda/runs.h"
#include "cuda/wgmma.h"

namespace swarr {

constexpr int kStep = kPanel;            // k of a stage
constexpr int kChunk = kPack<BFloat16>;  // elements of 16 bytes
// Steps whose products may still run when the next ones begin. What they read can't be overwritten, so of a ring that
// is filled again so many stages ask for nothing meanwhile: few, since a ring may have as few as kLeastStages.
constexpr int kBehind = 1, kLeastStages = 3, kMostStages = 32;

// A block's tile of c: 64 columns for each group, and rows. There may be more warps than groups have, to norm and
// store. With `share` above 1 so many blocks on neighbouring multiprocessors, a cluster, have the same weights and
// other rows. A step's weights then come from the second-level cache once for all of them.
template <int groups, int rows, int warps = 4 * groups, int share = 1>
struct FewShape {
  static constexpr int kGroups = groups, kRows = rows, kColumns = groups * kPanel, kShare = share;
  static constexpr int kWarps = warps, kThreads = warps * kWarp;
  static_assert(kThreads >= groups * kGroup + (share > 1 ? kWarp : 0));  // one warp feeds where weights are shared
  static constexpr int kSumsStride = kColumns + 4;  // four rows' sums of a column lie in different banks
  static constexpr int kStageBytes = groups * kPanelBytes, kRowsBytes = rows * kLineBytes;
  // The sums, and the same rounded, take the place of the weights.
  static constexpr int kSumsBytes = rows * (kSumsStride * 4 + kColumns * 2);
};

// Where a block's parts of shared memory begin, in bytes: behind the ring of weights, whose length is x.
struct FewPlaces {
  int x, norm, barriers, aside;

  template <class S>
  __host__ __device__ static constexpr FewPlaces Of(int steps, int stages, bool normed) {
    const int x = stages * S::kStageBytes, x_end = x + (normed ? steps : stages) * S::kRowsBytes,
              norm = x_end < S::kSumsBytes ? S::kSumsBytes : x_end, barriers = norm + (normed ? steps * kLineBytes : 0);
    return {x, norm, barriers, barriers + ((S::kShare > 1 ? 2 : 1) * S::kGroups * stages + 1 + 1) / 2 * 16};
  }
};

// Of x [rows, depth]; with norm[depth] what is multiplied is RmsNorm(x), rounded, and the copy engine brings so many
// panels of its rows at once.
struct FewRows {
  int rows, depth, panels;
  const BFloat16* norm;
  float eps;
};
struct Nothing {};

// Norms `count` rows of x in place, by one warp, with the bits of rmsnorm.cu: lane l takes the packs l, l + 32, ... of
// k elements, and a butterfly adds the lanes' sums of squares. Rows are taken together, since each waits long for
// little. A NaN becomes another one. A square has 16 bits and is exact in f32, so the fused sum rounds as rmsnorm.cu's
// does. (Of squares below 2^-126 nothing is left beside eps.)
template <class S, int count, int k>
__device__ void NormRowsAs(BFloat16* x, const BFloat16* weights, int first, int depth, float eps) {
  using P = Pack<std::uint32_t, k / 2>;  // pairs of elements
  constexpr int kTurn = kWarp * k, kPanels = kTurn / kStep, kPanelElements = S::kRows * kStep;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, begin = lane * k;
  const auto low = [](std::uint32_t pair) { return __uint_as_float(pair << 16); };
  const auto high = [](std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); };
  BFloat16* const panel = x + begin / kStep * kPanelElements + begin % kChunk;
  const auto at = [&](int i, int turn) {
    const int r = first + i;
    return reinterpret_cast<P*>(panel + turn * kPanels * kPanelElements + r * kStep +
                                ((begin % kStep / kChunk) ^ (r % 8)) * kChunk);
  };
  float r[count] = {};
#pragma unroll 1
  for (int c = begin, turn = 0; c < depth; c += kTurn, ++turn) {
    P packs[count];
#pragma unroll
    for (int i = 0; i < count; ++i) packs[i] = *at(i, turn);
#pragma unroll
    for (int j = 0; j < k / 2; ++j) {
#pragma unroll
      for (int i = 0; i < count; ++i) r[i] = fmaf(low(packs[i].at[j]), low(packs[i].at[j]), r[i]);
#pragma unroll
      for (int i = 0; i < count; ++i) r[i] = fmaf(high(packs[i].at[j]), high(packs[i].at[j]), r[i]);
    }
  }
  const float inverse = InverseRms(SumOfLanesRow(r), std::int64_t{depth}, eps);
#pragma unroll
  for (int i = 0; i < count; ++i) r[i] = __shfl_sync(0xffffffffu, inverse, i * (kWarp / count));
#pragma unroll 1
  for (int c = begin, turn = 0; c < depth; c += kTurn, ++turn) {
    const P weight = *reinterpret_cast<const P*>(weights + c);
    P packs[count];
#pragma unroll
    for (int i = 0; i < count; ++i) packs[i] = *at(i, turn);
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int j = 0; j < k / 2; ++j) {
        packs[i].at[j] = RoundPair(Normed(low(packs[i].at[j]), r[i], low(weight.at[j])),
                                   Normed(high(packs[i].at[j]), r[i], high(weight.at[j])));
      }
      *at(i, turn) = packs[i];
    }
  }
}

// Norms all rows, several of a warp's at once where there are more rows than warps.
template <class S>
__device__ void NormRows(BFloat16* x, const BFloat16* weights, int depth, float eps) {
  constexpr int kEach = (S::kRows + S::kWarps - 1) / S::kWarps, kAtOnce = kEach > 2 ? 4 : kEach;
  WithNormPack<BFloat16>(depth, [&]<int k>() {
#pragma unroll 1
    for (int first = static_cast<int>(threadIdx.x) / kWarp * kAtOnce; first < S::kRows; first += S::kWarps * kAtOnce) {
      NormRowsAs<S, kAtOnce, k>(x, weights, first, depth, eps);
    }
  });
}

// Writes a group's sums, [64 columns, rows], to the staged ones.
template <class S>
__device__ void StageSums(float* staged, const float (&sums)[S::kRows / 2]) {
  const unsigned lane = threadIdx.x % kWarp;
  float* to = staged + lane % 4 * 2 * S::kSumsStride + threadIdx.x / kWarp * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < S::kRows / 2; ++i) to[(i / 4 * 8 + i % 2) * S::kSumsStride + i / 2 % 2 * 8] = sums[i];
}

// What is brought: a group's panel of weights, and rows of x.
template <class S, class Layer>
struct FewFeed {
  const CUtensorMap& x;
  const Layer& layer;
  char *weights, *rows;
  int panel, row;

  // Begins to bring the weights of a step of k to a stage, of all blocks that share them, or its rows of x to one of
  // their places.
  __device__ void Weights(int stage, int step, std::uint64_t* arrived) const {
    layer.ForBoxes(panel, [&](const CUtensorMap& matrix, int from, int line) {
      char* to = weights + stage * kPanelBytes + line * kLineBytes;
      if constexpr (S::kShare > 1) {
        CopyBoxToAll<S::kShare>(to, matrix, step * kStep, from, arrived);
      } else {
        CopyBox(to, matrix, step * kStep, from, arrived);
      }
    });
  }
  __device__ int WeightsBytes() const { return layer.Lines(panel) * kLineBytes; }
  __device__ void Rows(int place, int step, std::uint64_t* arrived) const {
    CopyBox(rows + place * S::kRowsBytes, x, step * kStep, row, arrived);
  }
  __device__ void Prefetch(int step) const {
    layer.ForBoxes(panel, [&](const CUtensorMap& matrix, int from, int) { PrefetchBox(matrix, step * kStep, from); });
  }
};

// Begins sums = a b^T, plus sums if `keep`, for a step of k; a and b describe panels.
template <class S>
__device__ void MultiplyStep(float (&sums)[S::kRows / 2], std::uint64_t a, std::uint64_t b, bool keep) {
  FenceSums();
#pragma unroll
  for (int slice = 0; slice < kStep / 16; ++slice) {
    MultiplyAccumulateGroup<false, false>(sums, Advance(a, slice * kNextSlice<false>),
                                          Advance(b, slice * kNextSlice<false>), keep || slice > 0);
  }
}

// Makes all barriers, by one warp.
template <class S>
__device__ void MakeBarriers(std::uint64_t* full, std::uint64_t* empty, int stages) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int i = lane; i <= S::kGroups * stages; i += kWarp) InitBarrier(full + i, 1);
  if (S::kShare > 1) {
    for (int i = lane; i < S::kGroups * stages; i += kWarp) InitBarrier(empty + i, S::kShare);
  }
  ShowBarriers();
  __syncwarp();
}

// full[stage]: what a stage of the ring holds has arrived. If all of k has a stage, all weights arrive at the first.
// rows_full: the rows of x have arrived, but if they come with the stages. empty[stage], where weights are shared: all
// blocks that share them are done with what the stage had.
template <class S, class Layer>
__global__ void __launch_bounds__(S::kThreads)
    FewRowsKernel(const __grid_constant__ CUtensorMap x_matrix, const __grid_constant__ Layer layer, FewRows in,
                  int stages) {
  static_assert(Layer::kNormed || S::kGroups == 1, "rows that come with the stages come with those of one group");
  extern __shared__ __align__(1024) char shared[];
  const int steps = static_cast<int>(Blocks(in.depth, kStep)),
            tile = static_cast<int>(S::kShare > 1 ? blockIdx.y : blockIdx.x),
            row = static_cast<int>(S::kShare > 1 ? blockIdx.x : blockIdx.y) * S::kRows,
            rows = min(S::kRows, in.rows - row);
  const int four = S::kThreads == kGroup ? 0 : GroupOfThread(), group = S::kGroups == 1 ? 0 : four;
  const bool multiplies = four < S::kGroups, feeds = multiplies && threadIdx.x % kGroup == 0;
  const bool streams = steps > stages, rows_streamed = !Layer::kNormed && streams;
  const FewPlaces places = FewPlaces::Of<S>(steps, stages, Layer::kNormed);
  char *weights = shared + group * stages * kPanelBytes, *x = shared + places.x, *aside = shared + places.aside;
  auto* norm = reinterpret_cast<BFloat16*>(shared + places.norm);
  auto* barriers = reinterpret_cast<std::uint64_t*>(shared + places.barriers);
  std::uint64_t *full = barriers + group * stages, *rows_full = barriers + S::kGroups * stages;
  const auto early = layer.LoadEarly(row, rows);
  if (!Layer::kNormed) LetNextBegin();
  constexpr int kLast = S::kWarps - 1;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarp, 0),
            lane = static_cast<int>(threadIdx.x) % kWarp,
            rank = S::kShare > 1 ? static_cast<int>(blockIdx.x) % S::kShare : 0;
  std::uint64_t* const empty = rows_full + 1;
  const bool last = warp == kLast, brings_rows = Layer::kNormed && last;
  if (last) MakeBarriers<S>(barriers, empty, stages);
  if (S::kShare > 1) {
    ArriveAtPair();  // that is, at all blocks of the cluster
  } else {
    brings_rows ? ArriveThreads(1, S::kThreads) : SyncThreads(1, S::kThreads);
  }
  // Rows that are normed come first, and before all warps have met: a block that begins when the launch before is done
  // has nothing else to wait for.
  if (brings_rows && lane == 0) {
    WaitForPrevious();
    ArriveAndExpect(rows_full, steps * S::kRowsBytes);
    for (int step = 0; step < steps; step += in.panels) {
      CopyPanels(x + step * S::kRowsBytes, x_matrix, in.panels, step, row, rows_full);
    }
  }
  if (S::kShare > 1) WaitForPair();  // whose barriers are there then

  const auto feed_of = [&](int g) {
    return FewFeed<S, Layer>{x_matrix, layer, shared + g * stages * kPanelBytes, x, tile * S::kGroups + g, row};
  };
  const auto bytes_of = [&](const FewFeed<S, Layer>& of) {
    return of.WeightsBytes() + (rows_streamed ? S::kRowsBytes : 0);
  };
  const FewFeed<S, Layer> feed = feed_of(group);
  const int stage_bytes = bytes_of(feed);
  // One thread would take 2 to 3 us to ask for all, so the warps share it. Nobody multiplies, or norms, before all are
  // done with that, so they ask for no more than the ring holds, but where blocks that share weights have few stages.
  constexpr int kAskers = Layer::kNormed ? kLast : S::kWarps, kFirstForRows = S::kWarps / 2;
  if (lane == 0 && warp < kAskers) {
    for (int i = warp; i < S::kGroups * stages; i += kAskers) {
      const int g = i % S::kGroups, step = i / S::kGroups;
      const FewFeed<S, Layer> of = feed_of(g);
      std::uint64_t* arrived = barriers + g * stages + (streams ? step : 0);
      if (streams || step == 0) ArriveAndExpect(arrived, (streams ? 1 : steps) * bytes_of(of));
      if (step % S::kShare == rank) of.Weights(step, step, arrived);
    }
    if (!Layer::kNormed && warp >= kFirstForRows) {
      PrefetchMatrix(x_matrix);
      WaitForPrevious();
      if (!rows_streamed && warp == kFirstForRows) ArriveAndExpect(rows_full, steps * S::kRowsBytes);
      for (int step = warp - kFirstForRows; step < (rows_streamed ? stages : steps);
           step += S::kWarps - kFirstForRows) {
        feed.Rows(step, step, rows_streamed ? full + step : rows_full);
      }
    }
    for (int i = warp; S::kShare > 1 && i < S::kGroups * (steps - stages); i += kAskers) {
      const int step = stages + i / S::kGroups;
      if (step % S::kShare == rank) feed_of(i % S::kGroups).Prefetch(step);
    }
  }
  __syncwarp();
  if (Layer::kNormed) {
    for (int c = static_cast<int>(threadIdx.x) * kChunk; c < in.depth; c += S::kThreads * kChunk) {
      CopyAsync16(norm + c, in.norm + c);
    }
    CommitCopies();
  }
  layer.template FetchEarly<S>(aside, row, rows, early);
  // Attention, which comes next, soon has the device's memory bring nothing but its keys.
  if (Layer::kNormed) LetNextBegin();
  WaitForPrevious();
  layer.template FetchLate<S>(aside, tile, row, rows);
  CommitCopies();
  if (Layer::kNormed) {
    WaitCopies<1>();  // the norm's weights
    WaitBarrier(rows_full, 0);
    __syncthreads();
    NormRows<S>(reinterpret_cast<BFloat16*>(x), norm, in.depth, in.eps);
    ShowStores();
    __syncthreads();
  }

  const auto held = layer.template Hold<S>(aside, tile, rows);
  float sums[S::kRows / 2];
  if (multiplies && !streams) {
    if (!Layer::kNormed) WaitBarrier(rows_full, 0);
    WaitBarrier(full, 0);
    std::uint64_t a = Describe(weights), b = Describe(x);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      MultiplyStep<S>(sums, a, b, step > 0);
      a = Advance(a, kPanelBytes / 16);
      b = Advance(b, S::kRowsBytes / 16);
    }
    CommitProducts();
    WaitProducts<0>(sums);
  } else if (multiplies) {
#pragma unroll 1
    for (int step = 0, stage = 0, parity = 0; step < steps; ++step) {
      WaitBarrier(full + stage, parity);
      MultiplyStep<S>(sums, Describe(weights + stage * kPanelBytes),
                      Describe(x + (Layer::kNormed ? step : stage) * S::kRowsBytes), step > 0);
      CommitProducts();
      if (step >= kBehind) {
        WaitProducts<kBehind>();
        const int next = step - kBehind + stages, of = stage < kBehind ? stage + stages - kBehind : stage - kBehind;
        if (feeds && next < steps) {
          ArriveAndExpect(full + of, stage_bytes);
          if (rows_streamed) feed.Rows(of, next, full + of);
          if constexpr (S::kShare > 1) {
            for (unsigned block = 0; block < S::kShare; ++block) ArriveIn(block, empty + group * stages + of);
          } else {
            feed.Weights(of, next, full + of);
          }
        }
      }
      if (++stage == stages) {
        stage = 0;
        parity ^= 1;
      }
    }
    WaitProducts<0>(sums);
  } else if (S::kShare > 1 && threadIdx.x == S::kThreads - kWarp) {
    // Brings this block's share of the steps that had no stage at first, as soon as all blocks are done with one.
#pragma unroll 1
    for (int step = stages, stage = 0, parity = 0; step < steps; ++step) {
      for (int g = 0; g < S::kGroups; ++g) {
        WaitBarrier(empty + g * stages + stage, parity);
        if (step % S::kShare == rank) feed_of(g).Weights(stage, step, barriers + g * stages + stage);
      }
      if (++stage == stages) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
  WaitCopies<0>();
  __syncthreads();
  auto* staged = reinterpret_cast<float*>(shared);
  if (multiplies) StageSums<S>(staged, sums);
  __syncthreads();
  layer.template Store<S>(staged, aside, tile, row, rows, held);
}

}  // namespace swarr
