// SPDX-License-Identifier: Apache-2.0
// Products in bf16 by Hopper's warpgroups (cuda/product_wgmma.h): the three products of a linear layer; called by
// gemm.cu. Here is what is done with a tile's sums, and the choice of the tile.
#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "cuda/gemm_parts.h"
#include "cuda/product_wgmma.h"
#include "cuda/rope.h"

namespace swarr {
namespace {

// c = (sums + bias) + addend, rounded, or turned(rounded(sums + bias)), rounded. Results go through shared memory:
// there the copy engine brings addends, and from there it takes results, while the groups multiply on. `turns`: some of
// the products of the launch are turned.
template <bool turns>
struct StoreBoxes {
  using Places = void;
  CUtensorMap c, addend;
  const BFloat16* bias;
  Turn turn;
  bool adds;

  template <class S>
  static __device__ int RowOf(unsigned group, TileOrigin origin) {
    return static_cast<int>(origin.row) + (S::kTurns ? 0 : static_cast<int>(group) * S::kGroupRows);
  }
  static __device__ int ColumnOf(TileOrigin origin, int panel) {
    return static_cast<int>(origin.column) + panel * kPanel;
  }

  template <class S>
  __device__ void Prepare(char* place, unsigned group, TileOrigin origin, int panel, std::uint64_t* ready) const {
    if (!adds) return Arrive(ready);
    ArriveAndExpect(ready, S::kPlaceBytes);
    CopyBox(place, addend, ColumnOf(origin, panel), RowOf<S>(group, origin), ready);
  }

  template <class S>
  __device__ void Begin(unsigned group, const Product<BFloat16, BFloat16>& p, TileOrigin origin,
                        float (&sums)[S::kHalves][S::kColumns / 2]) const {
    if (bias) AddBias<S>(origin.column, p.columns, sums);
    if constexpr (turns) {
      if (turn.positions) TurnHeads<S>(RowOf<S>(group, origin), p.rows, sums);
    }
  }

  template <class S, int panel>
  __device__ void Store(char* place, unsigned group, TileOrigin origin,
                        const float (&sums)[S::kHalves][S::kColumns / 2]) const {
    adds ? Write<S, panel, true>(place, sums) : Write<S, panel, false>(place, sums);
    ShowStores();
    SyncThreads(1 + static_cast<int>(group), kGroup);
    if (threadIdx.x % kGroup != 0) return;
    StoreBox(c, ColumnOf(origin, panel), RowOf<S>(group, origin), place);
    CommitStores();
    WaitStoresRead<1>();
  }

  template <class S>
  __device__ void AddBias(std::int64_t column, std::int64_t columns, float (&sums)[S::kHalves][S::kColumns / 2]) const {
#pragma unroll
    for (int i = 0; i < S::kColumns / 8; ++i) {
      const std::int64_t at = column + i * 8 + threadIdx.x % 4 * 2;
      if (at >= columns) return;
      const float pair[] = {float(bias[at]), float(bias[at + 1])};
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[half][i * 4 + e] += pair[e % 2];
      }
    }
  }

  // A head is a panel, so a thread has both numbers of its pairs. All heads of a row are turned by the same angles,
  // which are loaded once for them.
  template <class S>
  __device__ void TurnHeads(std::int64_t row, std::int64_t rows, float (&sums)[S::kHalves][S::kColumns / 2]) const {
    static_assert(kTurnedHead == kPanel);
    constexpr int kBlocks = kPanel / 16, kLines = S::kHalves * 2;  // blocks of 8 in half a head; rows of a thread
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp;
    int position[kLines];
#pragma unroll
    for (int line = 0; line < kLines; ++line) {
      const std::int64_t n = row + line / 2 * kPanel + warp * 16 + line % 2 * 8 + lane / 4;
      position[line] = turn.positions[min(n, rows - 1)];
    }
#pragma unroll
    for (int line = 0; line < kLines; ++line) {
      const float* angles = turn.table + std::int64_t{position[line]} * kPanel + lane % 4 * 2;
      float2 cosine[kBlocks], sine[kBlocks];
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        cosine[i] = *reinterpret_cast<const float2*>(angles + i * 8);
        sine[i] = *reinterpret_cast<const float2*>(angles + kPanel / 2 + i * 8);
      }
#pragma unroll
      for (int at = 0; at < S::kPanels * kBlocks; ++at) {
        const int i = at % kBlocks;
        float* a = sums[line / 2] + at / kBlocks * kPanel / 2 + i * 4 + line % 2 * 2;
        TurnRounded(a, a + kBlocks * 4, cosine[i], sine[i]);
      }
    }
  }

  // Sums are rounded and stored as four matrices of 8 x 8 at a time: 16 rows, those of a warp, and 16 columns.
  template <class S, int panel, bool kAdds>
  static __device__ void Write(char* place, const float (&sums)[S::kHalves][S::kColumns / 2]) {
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp, matrix = lane / 8;
    char* line = place + (warp * 16 + matrix % 2 * 8 + lane % 8) * kLineBytes;
    const unsigned chunk = matrix / 2 ^ lane % 8;
#pragma unroll
    for (unsigned half = 0; half < S::kHalves; ++half) {
#pragma unroll
      for (unsigned two = 0; two < kPanel / 16; two += 2) {
        std::uint32_t words[2][4];
        char* fours[2];
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
          fours[i] = line + half * kPanelBytes + (chunk ^ (two + i) * 2) * 16;
          if (kAdds) LoadMatrix4(words[i], fours[i]);
        }
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
#pragma unroll
          for (unsigned m = 0; m < 4; ++m) {
            const float* pair = sums[half] + panel * kPanel / 2 + (two + i) * 8 + m * 2;
            words[i][m] = kAdds ? RoundPair(pair[0] + __uint_as_float(words[i][m] << 16),
                                            pair[1] + __uint_as_float(words[i][m] & 0xffff0000u))
                                : RoundPair(pair[0], pair[1]);
          }
          StoreMatrix4(fours[i], words[i]);
        }
      }
    }
  }
};

// The same for sums that stay f32: each pair is stored where it is. Addends come kAhead pairs at a time, as many as
// there are registers for: addend may be c, so a load can't overtake the stores before it.
template <int kColumns>
__device__ void StoreSums(const Product<BFloat16, float>& p, TileOrigin origin, const float (&sums)[kColumns / 2]) {
  constexpr int kAhead = kColumns > 192 ? 32 : 8;
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
  template <int kColumns>
  static __device__ void Take(const Product<BFloat16, float>& p, TileOrigin origin, const float (&sums)[kColumns / 2]) {
    StoreSums<kColumns>(p, origin, sums);
  }
};

// Rounds of tiles, times their columns.
template <class S, class Out>
std::int64_t CostOf(const Context& ctx, Products<BFloat16, Out> products) {
  std::int64_t works = 0;
  for (const Product<BFloat16, Out>& p : products) works += TilesOf<S>(p) * p.parts();
  return Blocks(works, std::max(1, ctx.stream->multiprocessors / S::kBlocks)) * S::kColumns;
}

template <class S, bool turns>
StoreBoxes<turns> BoxesOf(const Product<BFloat16, BFloat16>& p) {
  const auto describe = [&](const BFloat16* x) {
    return DescribeMatrix(x, p.rows, p.columns, p.columns, S::kHalves * kPanel);
  };
  return {describe(p.c), describe(p.addend ? p.addend : p.c), p.bias, p.turn, p.addend != nullptr};
}

// Either several products share their launch, or there is one, of several factors where training adds such.
template <class S, bool kTransposedA, bool kTransposedB, class Out>
void LaunchStored(const Context& ctx, Products<BFloat16, Out> products) {
  constexpr int kFactors = !kTransposedA && kTransposedB ? kMostFactors : 1,
                kMembers = kFactors > 1 ? 1 : kMostProducts;
  const auto launch = [&](const auto& end_of) {
    LaunchProducts<S, kTransposedA, kTransposedB, kFactors, kMembers>(ctx, products, end_of);
  };
  if constexpr (std::is_same_v<Out, float>) {
    return launch([](const auto&) { return Store{}; });
  } else {
    const bool turns = std::ranges::any_of(products, [](const auto& p) { return p.turn.positions != nullptr; });
    if constexpr (!kTransposedB) {
      if (turns) return launch(BoxesOf<S, true>);
    }
    SWARR_CHECK(!turns, "results of products with a transposed weight can't be turned in their kernel");
    launch(BoxesOf<S, false>);
  }
}

// Launches the cheaper shape. For its size a large tile is 1.05 times as fast.
template <bool kTransposedA, bool kTransposedB, class Out>
void LaunchCheaper(const Context& ctx, Products<BFloat16, Out> products) {
  CostOf<Large>(ctx, products) * 100 <= CostOf<Square>(ctx, products) * 105
      ? LaunchStored<Large, kTransposedA, kTransposedB>(ctx, products)
      : LaunchStored<Square, kTransposedA, kTransposedB>(ctx, products);
}

// Gradients of weights are cut into parts of k by the shapes alone; of the tiles that they may have (gemm_parts.h),
// this launches those with which this device is done soonest.
template <int i>
using PartShape =
    Shape<kPartTiles[i].rows, kPartTiles[i].columns, kPartTiles[i].groups, kPartTiles[i].turns, kPartTiles[i].blocks>;
void LaunchParts(const Context& ctx, Products<BFloat16, float> products) {
  const auto time = [&](const PartTile& tile) {
    return TimeOfParts(tile, TilesOf(tile, products), products[0].depth, products[0].part_depth,
                       ctx.stream->multiprocessors);
  };
  const auto best = std::ranges::min_element(kPartTiles, {}, time) - std::begin(kPartTiles);
  [&]<int... i>(std::integer_sequence<int, i...>) {
    ((i == best ? LaunchStored<PartShape<i>, true, true>(ctx, products) : void()), ...);
  }
  (std::make_integer_sequence<int, std::size(kPartTiles)>());
}

}  // namespace

// A product of few tiles is left to gemm_mma.cu, which has smaller ones. A warpgroup is more than twice as fast as what
// runs there, so half as many tiles as multiprocessors are enough. Left to it are also forms that training does not
// have: gradients of weights in bf16, and those of inputs in f32.
template <class Out>
bool WarpgroupsTake(const Context& ctx, Products<BFloat16, Out> products) {
  constexpr int kChunk = kPack<BFloat16>;
  std::int64_t works = 0;
  for (const Product<BFloat16, Out>& p : products) {
    const bool trained = std::is_same_v<Out, float> ? p.a.transposed == p.b.transposed : !p.a.transposed;
    const std::int64_t few = p.columns > kManyColumns ? kMostRowsOfMany : Square::kRows / 2;
    if (!trained || p.rows <= few || p.depth == 0) return false;
    if (!OperandsAligned<kChunk>(p) || !RowsAligned<kChunk>(p.columns, p.c, p.addend)) return false;
    works += Blocks(p.rows, Square::kRows) * Blocks(p.columns, Square::kColumns) * p.parts();
  }
  return ctx.stream->has_warpgroups && 2 * works >= ctx.stream->multiprocessors;
}

template <>
void MultiplyByWarpgroups(const Context& ctx, Products<BFloat16, BFloat16> products) {
  if (products[0].b.transposed) return LaunchCheaper<false, true>(ctx, products);
  LaunchCheaper<false, false>(ctx, products);
}
template <>
void MultiplyByWarpgroups(const Context& ctx, Products<BFloat16, float> products) {
  if (products[0].a.transposed) return LaunchParts(ctx, products);
  LaunchCheaper<false, false>(ctx, products);
}

template bool WarpgroupsTake(const Context&, Products<BFloat16, BFloat16>);
template bool WarpgroupsTake(const Context&, Products<BFloat16, float>);

}  // namespace swarr
