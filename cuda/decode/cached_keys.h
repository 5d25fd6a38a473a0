// SPDX-License-Identifier: Apache-2.0
// The keys of a cache as attention in bf16 on tensor cores reads them: what a launch is given, and which tiles the
// query heads of one row see that share a key head. Two kernels go through these: where rows are few, a block for each
// row and key head (cached_attention.cu), and where they are many, teams of warps (streamed_attention.cu). Both take
// the numbers of attention_mma.cu's instructions in their order, so all have the same bits.
#pragma once

#include "cuda/attention/attention_softmax.h"

namespace swarr {

static_assert(kTileRows == kKeyTile);

constexpr int kPages = kSoftmaxTile / kKeyTile;  // of a tile of the softmax: tiles of the cache
constexpr int kQueries = 16;                     // of a row and key head that are taken together
template <int P>
constexpr int kTilePart = kPages* kTileSize<P>;  // keys, or values, of a tile of the softmax

// What a launch reads, in integers of 32 bits: divisions of longer ones are long.
struct CachedQueries {
  const BFloat16 *q, *k, *v, *sinks;
  const std::int32_t *positions, *slots, *prompts;
  int N, H, G, D, group;  // group: query heads of a key head
  int tiles, k_tile, v_tile, sink_tiles, ring;
  std::int64_t cache_rows;  // of D numbers, if the cache is seen as a matrix
  AttentionSpec of_model;
  float scale2;
  bool early;  // keys that no row of this launch stores were there before the launch before

  // How often a row's key head is gone through, for so many of its query heads at a time.
  __host__ __device__ int Parts() const { return (group + kQueries - 1) / kQueries; }
};

// The query heads of row n that a block or a warp takes: those of key head g, from part * kQueries on.
struct HeadsOfRow {
  int count;         // 16 at most
  int head;          // of this lane's first row of scores; few models have the second, which is 8 behind
  std::int64_t row;  // the same as a row of [N, H]

  __device__ HeadsOfRow(const CachedQueries& in, int n, int g, int part)
      : count(min(kQueries, in.group - part * kQueries)),
        head(g * in.group + part * kQueries + Lane() / 4),
        row(std::int64_t{n} * in.H + head) {}
  __device__ int rows() const { return count > 8 ? 2 : 1; }
  __device__ bool There(int i) const { return Lane() / 4 + 8 * i < count; }
  __device__ const BFloat16* Queries(const CachedQueries& in) const { return in.q + (row - Lane() / 4) * in.D; }
  // Learned sinks come before all keys.
  __device__ void Begin(RowSoftmax& softmax, const BFloat16* sinks) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (sinks && There(i)) softmax.BeginWith(i, float(sinks[head + 8 * i]));
    }
  }
  __device__ float Sink(int i, const BFloat16* sinks) const {
    return sinks && There(i) ? float(sinks[head + 8 * i]) : kNothing;
  }
};

// The keys that these queries see. All of them stand at one position.
struct SeenKeys {
  int position, first;  // first: of the tiles of the slot and key head
  AttentionSpec spec;
  TileList pages, tiles;

  __device__ SeenKeys(AttentionSpec of_row, int at, int first_tile = 0)
      : position(at),
        first(first_tile),
        spec(of_row),
        pages{VisibleTilesOf(position, position, spec)},
        tiles(SoftmaxTilesOf(pages)) {}
  __device__ SeenKeys(const CachedQueries& in, int n, int g)
      : SeenKeys(SpecOfRow(in.of_model, in.prompts, n), in.positions[n], (in.slots[n] * in.G + g) * in.tiles) {}

  // Which of the cache's tiles has a page.
  __device__ int PlaceInCache(const CachedQueries& in, int page) const {
    return first + CacheTile(page, in.sink_tiles, in.ring);
  }
  // Scores of a tile's keys that are not seen become nothing.
  template <class Blocks>
  __device__ void Mask(Blocks&& at, int tile) const {
    const int first_key = tile * kSoftmaxTile, positions[] = {position, position};
    const KeyRange recent = VisibleKeysOf(position, spec).recent;
    if (first_key < recent.begin || first_key + kSoftmaxTile > recent.end) MaskScores(at, positions, first_key, spec);
  }
};

// The first key that the launch before may write, where a step's rows of one slot stand together and ascend: those
// before row n are looked at. All lanes call.
__device__ inline int FirstNewKey(const std::int32_t* slots, int n, int position) {
  const int before = n - 1 - Lane();
  const unsigned others = __ballot_sync(0xffffffffu, before < 0 || slots[before] != slots[n]);
  return others == 0 ? 0 : max(0, position - (__ffs(static_cast<int>(others)) - 1));
}

// streamed_attention.cu: whether rows are so many that teams should take them, and the launch.
bool StreamsKeys(const Context& ctx, const CachedQueries& in);
void StreamedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in);

}  // namespace swarr
