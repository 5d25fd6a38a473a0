// SPDX-License-Identifier: Apache-2.0
// Products in bf16 by Hopper's warpgroups (cuda/product_wgmma.h): the three products of a linear layer; called by
// gemm.cu. Here is what is done with a tile's sums, and the choice of the tile.
#include <array>

#include "cuda/product_wgmma.h"

namespace swarr {
namespace {

// c = (sums + bias) + addend for 64 rows. c, addend and the columns allow accesses of 16 bytes. Addends come kAhead
// runs at a time, as many as there are registers for: addend may be c, so a load can't overtake the stores before it.
template <int kColumns>
__device__ void StoreSums(const Product<BFloat16, BFloat16>& p, TileOrigin origin, const float (&sums)[kColumns / 2]) {
  constexpr int kQuads = kColumns / 32, kAhead = kQuads % 4 == 0 ? 4 : 3;
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp;
  const std::int64_t first = origin.column + lane % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = origin.row + warp * 16 + half * 8 + lane / 4, at = row * p.columns + first;
    const std::int64_t columns = row < p.rows ? p.columns - first : 0;
    uint4 addends[kAhead];
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
      if (p.addend && j % kAhead == 0) {
#pragma unroll
        for (int i = j; i < j + kAhead; ++i) {
          addends[i - j] = i * 32 < columns ? *reinterpret_cast<const uint4*>(p.addend + at + i * 32) : uint4{};
        }
      }
      Quad quad;
#pragma unroll
      for (int i = 0; i < 8; ++i) quad.at[i] = sums[(j * 4 + i / 2) * 4 + half * 2 + i % 2];
      if (p.bias) quad.AddBias(p.bias, origin.column + j * 32, p.columns);
      if (p.addend) quad.Add(addends[j % kAhead]);
      quad.Store(p.c + at + j * 32, j * 32 < columns);
    }
  }
}

// The same for sums that stay f32: each pair is stored where it is. Addends come kAhead pairs at a time.
template <int kColumns>
__device__ void StoreSums(const Product<BFloat16, float>& p, TileOrigin origin, const float (&sums)[kColumns / 2]) {
  constexpr int kAhead = 8;
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp;
  const std::int64_t column = origin.column + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = origin.row + warp * 16 + half * 8 + lane / 4, begin = row * p.columns + column;
    const int columns = row < p.rows ? static_cast<int>(p.columns - column) : 0;
    float2 addends[kAhead];
#pragma unroll
    for (int j = 0; j < kColumns / 8; ++j) {
      if (p.addend && j % kAhead == 0) {
#pragma unroll
        for (int i = j; i < j + kAhead; ++i) {
          addends[i - j] = i * 8 < columns ? *reinterpret_cast<const float2*>(p.addend + begin + i * 8) : float2{};
        }
      }
      if (j * 8 >= columns) continue;
      float2 pair = make_float2(sums[j * 4 + half * 2], sums[j * 4 + half * 2 + 1]);
      if (p.bias) {
        pair.x += float(p.bias[column + j * 8]);
        pair.y += float(p.bias[column + j * 8 + 1]);
      }
      if (p.addend) {
        pair.x += addends[j % kAhead].x;
        pair.y += addends[j % kAhead].y;
      }
      *reinterpret_cast<float2*>(p.c + begin + j * 8) = pair;
    }
  }
}

struct Store {
  template <int kColumns, class Out>
  static __device__ void Take(const Product<BFloat16, Out>& p, TileOrigin origin, const float (&sums)[kColumns / 2]) {
    StoreSums<kColumns>(p, origin, sums);
  }
};

// As in gemm_mma.cu.
template <class S, class Out>
std::int64_t CostOf(const Context& ctx, const Product<BFloat16, Out>& p) {
  const std::int64_t works = Blocks(p.rows, kRows) * Blocks(p.columns, S::kColumns) * p.parts();
  return Blocks(works, std::max(1, ctx.stream->multiprocessors)) * kRows * S::kColumns * 100 / S::kRate;
}

template <bool kTransposedA, bool kTransposedB, class Out>
void LaunchCheapest(const Context& ctx, const Product<BFloat16, Out>& p) {
  const std::array costs{CostOf<Wide>(ctx, p), CostOf<Large>(ctx, p), CostOf<Square>(ctx, p)};
  switch (std::min_element(costs.begin(), costs.end()) - costs.begin()) {
    case 0:
      return LaunchProduct<Wide, kTransposedA, kTransposedB>(ctx, p, Store{});
    case 1:
      return LaunchProduct<Large, kTransposedA, kTransposedB>(ctx, p, Store{});
    default:
      return LaunchProduct<Square, kTransposedA, kTransposedB>(ctx, p, Store{});
  }
}

}  // namespace

// A product of few tiles is left to gemm_mma.cu, which has smaller ones. A warpgroup is more than twice as fast as what
// runs there, so half as many tiles as multiprocessors are enough.
template <class Out>
bool WarpgroupsTake(const Context& ctx, const Product<BFloat16, Out>& p) {
  constexpr int kChunk = kPack<BFloat16>;
  const std::int64_t works = Blocks(p.rows, kRows) * Blocks(p.columns, Square::kColumns) * p.parts();
  return ctx.stream->has_warpgroups && 2 * works >= ctx.stream->multiprocessors &&
         p.rows > (p.columns > kManyColumns ? kMostRowsOfMany : kRows / 2) && p.depth > 0 &&
         RowsAligned<kChunk>(p.a.stride, p.a.data) && RowsAligned<kChunk>(p.b.stride, p.b.data) &&
         RowsAligned<kChunk>(p.columns, p.c, p.addend);
}

template <class Out>
void MultiplyByWarpgroups(const Context& ctx, const Product<BFloat16, Out>& p) {
  if (p.a.transposed) return LaunchCheapest<true, true>(ctx, p);
  if (p.b.transposed) return LaunchCheapest<false, true>(ctx, p);
  LaunchCheapest<false, false>(ctx, p);
}

template bool WarpgroupsTake(const Context&, const Product<BFloat16, BFloat16>&);
template bool WarpgroupsTake(const Context&, const Product<BFloat16, float>&);
template void MultiplyByWarpgroups(const Context&, const Product<BFloat16, BFloat16>&);
template void MultiplyByWarpgroups(const Context&, const Product<BFloat16, float>&);

}  // namespace swarr
