// SPDX-License-Identifier: Apache-2.0
// Gradients of weights have few elements and many k, so gemm.cu cuts k into parts: into how many, and how their results
// are added up.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <type_traits>

#include "cuda/gemm.h"
#include "cuda/pack.h"

namespace swarr {
namespace {

// A tile of c by Hopper's warpgroups, as product_wgmma.h has it, and what it takes on an H200 when all multiprocessors
// are busy, in ns: `step` for 64 of k, `stored` for its sums. Groups that take turns store while they multiply.
struct PartTile {
  int rows, columns, groups;
  bool turns;
  int blocks;
  std::int64_t step, stored;
};
constexpr PartTile kPartTiles[] = {{192, 64, 3, false, 1, 340, 1500},  {128, 256, 2, false, 1, 700, 4500},
                                   {128, 256, 2, false, 2, 690, 4000}, {128, 192, 2, true, 1, 550, 5000},
                                   {192, 192, 3, false, 1, 780, 4500}, {192, 192, 3, false, 2, 770, 4000},
                                   {192, 128, 3, false, 1, 530, 4000}};
constexpr std::int64_t kPartMultiple = 64, kAtOnce = 132;  // multiprocessors

// How long products take in parts of this depth. `tiles`: of all their c. Works, a tile and a part each, are dealt out
// in rounds, all tiles of one part before the next. Every other round goes back the way of the one before, so blocks
// that have taken fewer whole parts take tiles of the last part, two each if need be, which is cheap if it is short.
inline std::int64_t TimeOfParts(const PartTile& tile, std::int64_t tiles, std::int64_t depth, std::int64_t part_depth,
                                std::int64_t multiprocessors) {
  const std::int64_t slots = std::max<std::int64_t>(1, multiprocessors / tile.blocks),
                     parts = Blocks(depth, part_depth), whole = tiles * (parts - 1), most = whole % slots,
                     others = slots - most, left = std::max<std::int64_t>(0, tiles - 2 * others);
  const auto time = [&](std::int64_t of_whole, std::int64_t of_last) {
    const std::int64_t steps = of_whole * Blocks(part_depth, kPartMultiple) +
                               of_last * Blocks(depth - (parts - 1) * part_depth, kPartMultiple);
    return steps * tile.step + (tile.turns ? 1 : of_whole + of_last) * tile.stored;
  };
  const std::int64_t last_of_others = left > 0 ? 2 + Blocks(left, slots) : Blocks(tiles, others);
  return std::max(time(whole / slots, last_of_others), most > 0 ? time(whole / slots + 1, Blocks(left, slots)) : 0);
}
template <class T, class Out>
std::int64_t TilesOf(const PartTile& tile, Products<T, Out> products) {
  std::int64_t tiles = 0;
  for (const Product<T, Out>& p : products) {
    tiles += Blocks(p.rows, tile.rows * tile.blocks) * Blocks(p.columns, tile.columns);
  }
  return tiles;
}

// The depth of a part, of which there are at most kMostParts: the one with which a device is done soonest; and when
// that is. It depends on the shapes alone, so the device is always taken to be an H200, lest bits depend on it. A
// launch takes 4 us beside; to add up the parts 3, and their sums.
struct Parts {
  std::int64_t depth, cost = std::numeric_limits<std::int64_t>::max();
};
template <class T, class Out>
Parts BestParts(Products<T, Out> products) {
  constexpr std::int64_t kMostParts = 32, kAtLeast = 256, kRounds = 3, kLaunch = 4000, kAddition = 3000,
                         kAddedInNs = 1100;
  const std::int64_t depth = products[0].depth, most = std::clamp<std::int64_t>(depth / kAtLeast, 1, kMostParts);
  std::int64_t size = 0;
  for (const Product<T, Out>& p : products) size += p.rows * p.columns;
  if (depth == 0 || size == 0) return {depth, 0};
  Parts best{depth};
  // Other dtypes have tiles of their own, which are small.
  for (const PartTile& tile : std::span(kPartTiles).first(std::is_same_v<T, BFloat16> ? std::size(kPartTiles) : 1)) {
    const std::int64_t tiles = TilesOf(tile, products), stored_depth = tile.stored * kPartMultiple / tile.step;
    const auto take = [&](std::int64_t parts, std::int64_t wanted) {
      const std::int64_t part = Blocks(wanted, kPartMultiple) * kPartMultiple;
      if (parts > most || Blocks(depth, part) != parts) return;
      const std::int64_t cost = kLaunch + TimeOfParts(tile, tiles, depth, part, kAtOnce) +
                                (parts > 1 ? kAddition + parts * size / kAddedInNs : 0);
      if (cost < best.cost) best = {part, cost};
    };
    take(1, depth);
    // As many whole parts as fill some rounds, and nothing beside, or a last part about half as deep, so that two
    // tiles of it take as long as one of a whole part.
    for (std::int64_t round = 1; round <= kRounds; ++round) {
      const std::int64_t whole = std::min(most, round * (kAtOnce / tile.blocks) / tiles);
      if (whole == 0) continue;
      take(whole, Blocks(depth, whole));
      take(whole + 1, (2 * depth + stored_depth) / (2 * whole + 1));
    }
  }
  return best;
}

// What adds up the parts of a product.
template <class Sum, class Out>
struct PartSums {
  std::int64_t size;
  const Sum* partial;  // [parts, size]
  const Out* addend;   // or null
  Out* c;
};
template <class Sum, class Out>
struct AllPartSums {
  PartSums<Sum, Out> of[kMostProducts];
};

// Grid: the packs of the largest product, 1, the products. `whole`: packs can be moved whole in all of them.
template <bool whole, class Sum, class Out>
__global__ void AddPartsKernel(std::int64_t parts, const __grid_constant__ AllPartSums<Sum, Out> all) {
  constexpr int k = kPack<Sum>;
  const PartSums<Sum, Out>& sums = all.of[blockIdx.z];
  const std::int64_t i = FirstOfThread<k>();
  LetNextBegin();
  WaitForPrevious();
  if (i >= sums.size) return;
  constexpr std::bool_constant<whole> aligned;
  constexpr int kAhead = 8;  // packs that are on their way together
  Pack<Sum, k> sum{};
  for (std::int64_t first = 0; first < parts; first += kAhead) {
    Pack<Sum, k> more[kAhead];
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      const Sum* part = sums.partial + (first + ahead) * sums.size;
      if (first + ahead < parts) more[ahead] = LoadPack<k>(part, i, sums.size, aligned);
    }
#pragma unroll
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      if (first + ahead >= parts) break;
      for (int j = 0; j < k; ++j) sum.at[j] += more[ahead].at[j];
    }
  }
  Pack<Out, k> out{};
  if (sums.addend) out = LoadPack<k>(sums.addend, i, sums.size, aligned);
  for (int j = 0; j < k; ++j) {
    out.at[j] = static_cast<Out>(sums.addend ? sum.at[j] + static_cast<Sum>(out.at[j]) : sum.at[j]);
  }
  StorePack<k>(sums.c, i, sums.size, aligned, out);
}

}  // namespace
}  // namespace swarr
