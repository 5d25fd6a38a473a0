// SPDX-License-Identifier: Apache-2.0
// Gradients of weights have few elements and many k, so gemm.cu cuts k into parts: into how many, and how their results
// are added up.
#pragma once

#include <limits>
#include <utility>

#include "cuda/gemm.h"
#include "cuda/pack.h"

namespace swarr {
namespace {

// The depth of a part, of which there are at most 16: the one with which a device is done soonest; and when that is. It
// depends on the shapes alone. So the device is always taken to have 132 multiprocessors, lest bits depend on it. Each
// multiplies tiles of 128 rows, of the best width, one after another; 128 columns take as long as 146 and 192 as 185
// would at the speed of 256 (the rates in gemm_wgmma.cu). To store a tile of sums and to add it up takes as long as 640
// of k.
struct Parts {
  std::int64_t depth, cost = std::numeric_limits<std::int64_t>::max();
};
template <class T, class Out>
Parts BestParts(Products<T, Out> products) {
  constexpr std::int64_t kParts = 16, kAtLeast = 256, kMultiple = 64, kAtOnce = 132, kStored = 640;
  const std::int64_t depth = products[0].depth;
  if (depth == 0) return {0, 0};
  Parts best{depth};
  for (std::int64_t parts = 1; parts == 1 || (parts <= kParts && depth >= parts * kAtLeast); ++parts) {
    const std::int64_t part = Blocks(depth, parts * kMultiple) * kMultiple;
    for (const auto& [width, time] : {std::pair{128, 146}, {192, 185}, {256, 256}}) {
      std::int64_t tiles = 0;
      for (const Product<T, Out>& p : products) {
        tiles += Blocks(p.rows, 128) * Blocks(p.columns, width) * Blocks(depth, part);
      }
      const std::int64_t cost = Blocks(tiles, kAtOnce) * time * (part + (parts > 1 ? kStored : 0));
      if (cost < best.cost) best = {part, cost};
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
  WaitForPrevious();
  if (i >= sums.size) return;
  constexpr std::bool_constant<whole> aligned;
  Pack<Sum, k> sum{};
#pragma unroll 4
  for (std::int64_t part = 0; part < parts; ++part) {
    const Pack<Sum, k> more = LoadPack<k>(sums.partial + part * sums.size, i, sums.size, aligned);
    for (int j = 0; j < k; ++j) sum.at[j] += more.at[j];
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
