// SPDX-License-Identifier: Apache-2.0
// Products in bf16 by Hopper's warpgroups (cuda/wgmma.h): what gemm_wgmma.cu and head_wgmma.cu share, all but what is
// done with a tile's sums. The plain twin is gemm_mma.cu: the same bits, one warp at a time. Every element is again one
// chain of instructions of 16 k each, ascending, padded with zeros to a multiple of 64, and the two instructions agree
// bit for bit (cuda_gemm_test.cc compares them).
//
// A block lives on from tile to tile of c. One of its three groups of 128 threads feeds: its first thread has the copy
// engine bring tiles of the operands, 64 of k deep, into a ring of stages in shared memory. The other two groups
// multiply; some tiles have three. A group may have its share of each tile of c; the tiles are then as large as
// possible, and little is read twice. Or two groups take whole tiles in turns, and while one stores its sums the other
// multiplies: better where the depth is small.
//
// What the second-level cache gives is what limits such a kernel. So blocks may come in pairs, on neighbouring
// multiprocessors: their tiles are one below the other, and each reads half of their tile of b for both.
//
//   full[stage]    the stage's bytes have arrived
//   empty[stage]   all groups that multiply the stage, or half of it, are done with it; in a pair, those of both blocks
//   turns[group]   the other group has begun its last product, so that this one may begin
//   ready[place]   results can be written to a place in shared memory, of which each group has two
#pragma once

#include <algorithm>
#include <span>

#include "cuda/gemm.h"
#include "cuda/pack.h"
#include "cuda/wgmma.h"

namespace swarr {
namespace {

constexpr int kStep = 64;  // k of a stage

// Of a tile of c. `turns`: two groups take whole tiles in turns, else each of `groups` has its share of the rows.
// `blocks`: 2 if they come in pairs, else 1.
template <int rows, int columns, int groups, bool turns, int blocks>
struct Shape {
  static constexpr int kRows = rows, kColumns = columns, kGroups = groups, kBlocks = blocks;
  static constexpr bool kTurns = turns;
  static constexpr int kGroupRows = turns ? rows : rows / groups;  // that a group multiplies,
  static constexpr int kHalves = kGroupRows / kPanel;              // in so many times kPanel
  static constexpr int kThreads = (groups + 1) * kGroup;
  // Of a thread that feeds and of one that multiplies, out of 65,536: as many for the first as spill nothing.
  static constexpr int kFeederRegisters = turns ? 24 : (groups > 2 ? 56 : 40);
  static constexpr int kRegisters = turns ? 240 : (groups > 2 ? 152 : 232);
  static constexpr int kBytesA = rows * kLineBytes, kStageBytes = kBytesA + columns * kLineBytes;
  static constexpr int kPanels = columns / kPanel, kPlaceBytes = kHalves * kPanelBytes;  // of results in bf16
};
using Large = Shape<128, 192, 2, true, 2>;
using Square = Shape<128, 128, 2, true, 2>;

// Whether results pass through shared memory, by panels of 64 columns. Each group has two places for panels; while one
// is stored the next is written to the other.
//   end.Prepare<S>(place, group, origin, panel, ready)   one thread calls it when the place is free for that panel of
//                                                        the tile at `origin`; whatever it does ends in ready
//   end.Begin<S>(group, product, origin, sums)           the group calls it before it stores a tile
//   end.Store<S, panel>(place, group, origin, sums)      the group calls it when the place is ready. When it returns to
//                                                        the group's first thread, the place before is free.
template <class End>
concept HasPlaces = requires {
  typename End::Places;
};

constexpr int kAlignment = 1024, kMostStages = 6, kRoom = 226 * 1024;
template <class S, class End>
constexpr int kPlacesBytes = HasPlaces<End> ? 2 * S::kGroups* S::kPlaceBytes : 0;
// As many as there is room for.
template <class S, class End>
constexpr int kStages = std::min(kMostStages, (kRoom - kAlignment - kPlacesBytes<S, End>) / S::kStageBytes);

// Brings the tile at (row, k) of an operand: kSize lines of 64 k, or, if it is transposed, panels of 64 rows with 64
// lines. `blocks` share it: each brings its part of the lines to all.
template <int kSize, bool kTransposed, int blocks>
__device__ void CopyTile(char* to, const CUtensorMap& matrix, std::int64_t row, std::int64_t k, unsigned rank,
                         std::uint64_t* full) {
  constexpr int kLines = (kTransposed ? kPanel : kSize) / blocks, kPanels = kTransposed ? kSize / kPanel : 1;
  const int line = blocks > 1 ? static_cast<int>(rank) * kLines : 0,
            r = static_cast<int>(row) + (kTransposed ? 0 : line), d = static_cast<int>(k) + (kTransposed ? line : 0);
#pragma unroll
  for (int panel = 0; panel < kPanels; ++panel) {
    char* box = to + panel * kPanelBytes + line * kLineBytes;
    const int x = kTransposed ? r + panel * kPanel : d, y = kTransposed ? d : r;
    blocks > 1 ? CopyBoxToAll<blocks>(box, matrix, x, y, full) : CopyBox(box, matrix, x, y, full);
  }
}

// The ring of stages, and a block's way through the tiles of c and the parts of k.
template <class S, int stages>
struct Ring {
  char* memory;
  std::uint64_t *full, *empty;
  unsigned round = 0;  // of all stages fed or multiplied so far by this block

  __device__ unsigned index() const { return round % stages; }
  __device__ unsigned parity() const { return round / stages % 2; }
  __device__ char* stage() const { return memory + index() * S::kStageBytes; }
  // This group is done with the stage before.
  __device__ void LeaveBefore() const {
    const unsigned thread = threadIdx.x % kGroup;
    std::uint64_t* before = empty + (round - 1) % stages;
    if constexpr (S::kBlocks > 1) {
      if (thread < S::kBlocks) ArriveIn(thread, before);
    } else {
      if (thread == 0) Arrive(before);
    }
  }
};

// One of the products of a launch, and what takes its sums.
template <class Out, class End, int factors>
struct Member {
  CUtensorMap a[factors], b[factors];
  Product<BFloat16, Out> product;
  End end;
  unsigned tiles;  // of c, those of a pair counted once. 0: no product
};
template <class Out, class End, int factors, int members>
struct Members {
  Member<Out, End, factors> at[members];
  unsigned tiles, works;  // of all; works: tiles times parts of k
};

// What a block works on: a tile of one product's c and a part of its k.
template <class Member>
struct Work {
  const Member& of;
  TileOrigin origin;
  std::int64_t part, begin, end;  // end: of k
  unsigned steps;                 // stages, those of further factors among them

  template <class S>
  __device__ Work(const S&, unsigned tile, std::int64_t part, const Member& member) : of(member), part(part) {
    const auto& p = of.product;
    origin = OriginOfTile(tile, p.rows, p.columns, S::kBlocks * S::kRows, S::kColumns);
    origin.row += blockIdx.x % S::kBlocks * S::kRows;
    begin = part * p.part_depth;
    end = min(p.depth, begin + p.part_depth);
    std::int64_t all = Blocks(end - begin, kStep);
    for (const auto& factors : p.more) all += Blocks(factors.depth, kStep);
    steps = static_cast<unsigned>(all);
  }
};
// The index counts the tiles of all members, for one part of k after another.
template <class S, class Out, class End, int factors, int members>
__device__ Work<Member<Out, End, factors>> WorkAt(unsigned index, const Members<Out, End, factors, members>& all) {
  const unsigned part = index / all.tiles;
  unsigned tile = index - part * all.tiles;
  int i = 0;
  for (; i + 1 < members && tile >= all.at[i].tiles; ++i) tile -= all.at[i].tiles;
  return {S{}, tile, part, all.at[i]};
}

// sums = a b^T over the depth of the work, by one group. `row`: the first of its rows in the tile.
template <class S, bool kTransposedA, bool kTransposedB, int stages>
__device__ void MultiplyStages(Ring<S, stages>& ring, unsigned steps, unsigned row,
                               float (&sums)[S::kHalves][S::kColumns / 2], std::uint64_t* next_turn) {
  for (unsigned step = 0; step < steps; ++step, ++ring.round) {
    WaitBarrier(ring.full + ring.index(), ring.parity());
    const std::uint64_t a = Describe(ring.stage() + row / kPanel * kPanelBytes),
                        b = Describe(ring.stage() + S::kBytesA);
    FenceSums();
#pragma unroll
    for (int slice = 0; slice < kStep / 16; ++slice) {
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half) {
        MultiplyAccumulateGroup<kTransposedA, kTransposedB>(
            sums[half], Advance(a, half * (kPanelBytes / 16) + slice * kNextSlice<kTransposedA>),
            Advance(b, slice * kNextSlice<kTransposedB>), step > 0 || slice > 0);
      }
    }
    CommitProducts();
    if (step == 0) continue;
    WaitProducts<1>();  // the products of the stage before
    ring.LeaveBefore();
  }
  if (S::kTurns && threadIdx.x % kGroup == 0) Arrive(next_turn);
  WaitProducts<0>();
  ring.LeaveBefore();
}

// Calls f<0>, f<1>, ...
template <int panels, class F>
__device__ void ForPanels(F&& f) {
  if constexpr (panels > 1) ForPanels<panels - 1>(f);
  f.template operator()<panels - 1>();
}

// The members' ends take the sums. An end without places in shared memory has end.Take<columns>(product, origin, sums),
// which is called for every 64 rows of a tile by the group that has them. Grid: at most one block for each
// multiprocessor.
template <class S, bool kTransposedA, bool kTransposedB, class Out, class End, int factors, int members>
__global__ void __cluster_dims__(S::kBlocks, 1, 1) __launch_bounds__(S::kThreads, 1)
    ProductKernel(const __grid_constant__ Members<Out, End, factors, members> all) {
  constexpr int stages = kStages<S, End>;
  constexpr bool kInParts = kTransposedA;  // gradients of weights alone
  extern __shared__ char shared[];
  __shared__ std::uint64_t full[stages], empty[stages], turns[2], ready[2 * S::kGroups];
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) {
      InitBarrier(full + i, 1);
      InitBarrier(empty + i, (S::kTurns ? 1 : S::kGroups) * S::kBlocks);
    }
    for (std::uint64_t& turn : turns) InitBarrier(&turn, 1);
    for (std::uint64_t& place : ready) InitBarrier(&place, 1);
    ShowBarriers();
  }
  if (threadIdx.x == S::kGroups * kGroup) {
    PrefetchMatrix(all.at[0].a[0]);
    PrefetchMatrix(all.at[0].b[0]);
  }
  LetNextBegin();
  S::kBlocks > 1 ? SyncPair() : __syncthreads();
  WaitForPrevious();
  Ring<S, stages> ring{shared + (kAlignment - SharedAddress(shared) % kAlignment) % kAlignment, full, empty};
  const unsigned works = all.works, group = static_cast<unsigned>(GroupOfThread()), first = blockIdx.x / S::kBlocks,
                 stride = gridDim.x / S::kBlocks;
  // The n-th work that this block takes, or its pair; not below `works` if there is none. Where the works are parts of
  // k, every other round goes back from the last block to the first: a short last part of all tiles then falls to those
  // that have had least.
  const auto taken = [&](unsigned n) { return n * stride + (kInParts && n % 2 == 1 ? stride - 1 - first : first); };
  const auto place = [&](unsigned of, unsigned panel) {
    return ring.memory + stages * S::kStageBytes + (of * 2 + panel % 2) * S::kPlaceBytes;
  };
  // For the group's n-th panel of all.
  const auto prepare = [&](unsigned of, unsigned n) {
    const unsigned tile = n / S::kPanels, index = taken(S::kTurns ? tile * 2 + of : tile);
    if constexpr (HasPlaces<End>) {
      if (index >= works) return;
      const auto work = WorkAt<S>(index, all);
      work.of.end.template Prepare<S>(place(of, n), of, work.origin, n % S::kPanels, ready + of * 2 + n % 2);
    }
  };
  if (group == S::kGroups) {
    ShrinkRegisters<S::kFeederRegisters>();
    if (threadIdx.x % kGroup != 0) return;
    for (unsigned n = 0; n < 2 * S::kGroups; ++n) prepare(n / 2, n % 2);
    for (unsigned n = 0; taken(n) < works; ++n) {
      const auto work = WorkAt<S>(taken(n), all);
#pragma unroll 1
      for (int f = 0; f < factors; ++f) {
        const std::int64_t k_end = f == 0 ? work.end : work.of.product.more[f - 1].depth;
        for (std::int64_t k = f == 0 ? work.begin : 0; k < k_end; k += kStep, ++ring.round) {
          std::uint64_t* arrived = full + ring.index();
          WaitBarrier(empty + ring.index(), ring.parity() ^ 1);
          ArriveAndExpect(arrived, S::kStageBytes);
          CopyTile<S::kRows, kTransposedA, 1>(ring.stage(), work.of.a[f], work.origin.row, k, 0, arrived);
          CopyTile<S::kColumns, kTransposedB, S::kBlocks>(ring.stage() + S::kBytesA, work.of.b[f], work.origin.column,
                                                          k, blockIdx.x % S::kBlocks, arrived);
        }
      }
    }
    // Until all are done with what was fed: the other block of a pair arrives at barriers here.
    for (int i = 0; i < stages; ++i, ++ring.round) WaitBarrier(empty + ring.index(), ring.parity() ^ 1);
  } else {
    GrowRegisters<S::kRegisters>();
    for (unsigned turn = 0; taken(turn) < works; ++turn) {
      const auto work = WorkAt<S>(taken(turn), all);
      if (S::kTurns && turn % 2 != group) {
        ring.round += work.steps;
        continue;
      }
      const unsigned tile = S::kTurns ? turn / 2 : turn, row = S::kTurns ? 0 : group * S::kGroupRows;
      // The first turn of the first group is open.
      if (S::kTurns) WaitBarrier(turns + group, tile % 2 ^ (group == 0 ? 1 : 0));
      float sums[S::kHalves][S::kColumns / 2];
      MultiplyStages<S, kTransposedA, kTransposedB>(ring, work.steps, row, sums, turns + (group ^ 1));
      if constexpr (HasPlaces<End>) {
        work.of.end.template Begin<S>(group, work.of.product, work.origin, sums);
        ForPanels<S::kPanels>([&]<int panel>() {
          const unsigned n = tile * S::kPanels + panel;
          WaitBarrier(ready + group * 2 + n % 2, n / 2 % 2);
          work.of.end.template Store<S, panel>(place(group, n), group, work.origin, sums);
          if (threadIdx.x % kGroup == 0 && n > 0) prepare(group, n + 1);
        });
      } else {
        Product<BFloat16, Out> part = work.of.product;
        part.c += work.part * part.rows * part.columns;
#pragma unroll
        for (int half = 0; half < S::kHalves; ++half) {
          work.of.end.template Take<S::kColumns>(part, {work.origin.row + row + half * kPanel, work.origin.column},
                                                 sums[half]);
        }
      }
    }
  }
  WaitStoresRead<0>();
}

// Tiles of c, those of a pair counted once.
template <class S, class Out>
std::int64_t TilesOf(const Product<BFloat16, Out>& p) {
  return Blocks(p.rows, S::kBlocks * S::kRows) * Blocks(p.columns, S::kColumns);
}

// Describes an operand to the copy engine as it is stored; `blocks` share its tiles.
CUtensorMap DescribeOperand(const Operand<BFloat16>& x, std::int64_t n, std::int64_t depth, int size, int blocks) {
  return DescribeMatrix(x.data, x.transposed ? depth : n, x.transposed ? n : depth, x.stride,
                        (x.transposed ? kPanel : size) / blocks);
}

// The products of one launch have the same form. At most `factors` are added in each. end_of(product) is its end.
template <class S, bool kTransposedA, bool kTransposedB, int factors, int members, class Out, class EndOf>
void LaunchProducts(const Context& ctx, std::span<const Product<BFloat16, Out>> products, const EndOf& end_of) {
  using End = decltype(end_of(products[0]));
  SWARR_CHECK(products.size() <= members, products.size(), " products in a launch of at most ", members);
  Members<Out, End, factors, members> all;
  all.tiles = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product<BFloat16, Out>& p = products[i];
    SWARR_CHECK(factors > 1 || p.more[0].depth == 0,
                "products of this form can't be added to each other in one kernel");
    Member<Out, End, factors>& member = all.at[i];
    for (int f = 0; f < factors; ++f) {
      const Factors<BFloat16> x =
          f == 0 || p.more[f - 1].depth == 0 ? Factors<BFloat16>{p.a, p.b, p.depth} : p.more[f - 1];
      member.a[f] = DescribeOperand(x.a, p.rows, x.depth, S::kRows, 1);
      member.b[f] = DescribeOperand(x.b, p.columns, x.depth, S::kColumns, S::kBlocks);
    }
    SWARR_CHECK(p.parts() == products[0].parts(), "products of one launch have as many parts");
    member.product = p;
    member.end = end_of(p);
    member.tiles = static_cast<unsigned>(TilesOf<S>(p));
    all.tiles += member.tiles;
  }
  all.works = all.tiles * static_cast<unsigned>(products[0].parts());
  for (std::size_t i = products.size(); i < members; ++i) {
    all.at[i] = all.at[0];
    all.at[i].tiles = 0;
  }
  const auto blocks = S::kBlocks * std::min<unsigned>(all.works, ctx.stream->multiprocessors / S::kBlocks);
  constexpr int kBytes = kStages<S, End> * S::kStageBytes + kPlacesBytes<S, End> + kAlignment;
  Launch(ctx, {blocks, S::kThreads, kBytes, /*early=*/true},
         ProductKernel<S, kTransposedA, kTransposedB, Out, End, factors, members>, all);
}

template <class S, bool kTransposedA, bool kTransposedB, class Out, class End>
void LaunchProduct(const Context& ctx, const Product<BFloat16, Out>& p, const End& end) {
  LaunchProducts<S, kTransposedA, kTransposedB, 1, 1>(ctx, std::span(&p, 1), [&](const auto&) { return end; });
}

}  // namespace
}  // namespace swarr
