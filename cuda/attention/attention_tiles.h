// SPDX-License-Identifier: Apache-2.0
// How all attention kernels see queries and keys, whether a thread computes a score (attention_rows.h) or tensor cores
// do (attention_mma.cu): as blocks of queries, each with the tiles of keys that it may see. A kernel takes its blocks
// from a source. Only the source sets training and decoding apart: DocumentQueries cuts whole documents into blocks,
// SlotQueries takes the query heads that share a key head of one row. The rest is the same code, and a query's sums are
// taken over the same tiles in the same order (P8).
#pragma once

#include <cmath>
#include <limits>

#include "attn/kernels/attention_kernels.h"
#include "cuda/cuda.h"

namespace swarr {

// Documents are cut into blocks of `rows` rows, counted from each document's start. Blocks of document d are numbered
// from first_row[d] / rows + d on. Since floor(b / rows) + 1 >= floor(a / rows) + ceil((b - a) / rows), two documents
// never share a number, and nobody has to count blocks first. Numbers that are left over are empty blocks.
constexpr std::int64_t DocumentBlocks(std::int64_t N, std::int64_t documents, int rows) { return N / rows + documents; }

struct DocumentBlock {
  std::int64_t document;
  std::int64_t first_row;  // of the document
  int length;              // of the document
  int begin, end;          // the block's rows within the document; begin >= end: empty
};

// The last i < count with key(i) <= x, where key ascends and key(0) <= x.
template <class F>
__device__ std::int64_t LastAtMost(std::int64_t count, std::int64_t x, F&& key) {
  std::int64_t i = 0;
  for (std::int64_t end = count; end - i > 1;) {
    const std::int64_t middle = (i + end) / 2;
    (key(middle) <= x ? i : end) = middle;
  }
  return i;
}

__device__ inline DocumentBlock DocumentBlockOf(const std::int32_t* first_row, std::int64_t documents, int rows,
                                                std::int64_t block) {
  const std::int64_t d = LastAtMost(documents, block, [&](std::int64_t i) { return first_row[i] / rows + i; });
  const int first = first_row[d], length = first_row[d + 1] - first;
  const auto begin = static_cast<int>((block - first / rows - d) * rows);
  return {d, first, length, begin, min(begin + rows, length)};
}

// The tiles of keys and values of one key head of a document or of a cache slot: rows of D numbers.
template <class T>
struct KeyTiles {
  const T *k, *v;
  std::int64_t row;             // from one key to the next
  std::int64_t k_tile, v_tile;  // from one tile to the next
  int length;                   // keys; nothing behind them is read
  int sink_tiles = 0, ring = std::numeric_limits<int>::max();

  __device__ const T* K(int tile) const { return k + CacheTile(tile, sink_tiles, ring) * k_tile; }
  __device__ const T* V(int tile) const { return v + CacheTile(tile, sink_tiles, ring) * v_tile; }
  __device__ int Valid(int tile) const { return min(kKeyTile, length - tile * kKeyTile); }
};

// Queries that are taken together: row r of the block is row first + r * step of [N, H].
template <class T>
struct QueryBlock {
  std::int64_t first, step;
  int count;
  KeyTiles<T> keys;
};

// Blocks of consecutive queries of one head of a document.
template <class T>
struct DocumentQueries {
  const T *k, *v;
  const std::int32_t* first_row;
  std::int64_t documents, H, G, D;

  std::int64_t Blocks(std::int64_t N, int rows) const { return DocumentBlocks(N, documents, rows) * H; }
  __device__ QueryBlock<T> Block(std::int64_t block, int rows, const std::int32_t*) const {
    const DocumentBlock b = DocumentBlockOf(first_row, documents, rows, block / H);
    const std::int64_t h = block % H, keys = (b.first_row * G + h / (H / G)) * D, tile = kKeyTile * G * D;
    return {(b.first_row + b.begin) * H + h, H, b.end - b.begin, {k + keys, v + keys, G * D, tile, tile, b.length}};
  }
};

// The query heads of one row that share a key head, up to `rows` of them, with the keys of the row's slot.
template <class T>
struct SlotQueries {
  const T *k, *v;
  const std::int32_t* slots;
  std::int64_t H, G, D, tiles, k_tile, v_tile;
  int sink_tiles, ring;

  // Where the slot of row n has a tile of key head g.
  __device__ std::int64_t TileOf(std::int64_t n, std::int64_t g, int tile) const {
    return TileOfSlot(slots[n], g, tile);
  }
  __device__ std::int64_t TileOfSlot(std::int64_t slot, std::int64_t g, int tile) const {
    return (slot * G + g) * tiles + CacheTile(tile, sink_tiles, ring);
  }
  __host__ __device__ std::int64_t Parts(int rows) const { return (H / G + rows - 1) / rows; }
  std::int64_t Blocks(std::int64_t N, int rows) const { return N * G * Parts(rows); }
  __device__ QueryBlock<T> Block(std::int64_t block, int rows, const std::int32_t* q_pos) const {
    const std::int64_t group = H / G, part = block % Parts(rows), g = block / Parts(rows) % G,
                       n = block / Parts(rows) / G;
    const std::int64_t tile = (slots[n] * G + g) * tiles;
    // Behind the query's position a tile may hold older keys, or nothing yet.
    return {n * H + g * group + part * rows,
            1,
            static_cast<int>(min(std::int64_t{rows}, group - part * rows)),
            {k + tile * k_tile, v + tile * v_tile, D, k_tile, v_tile, q_pos[n] + 1, sink_tiles, ring}};
  }
};

template <class T>
DocumentQueries<T> QueriesOfDocuments(const AttentionInputs& in) {
  return {in.k.data<T>(), in.v.data<T>(), in.documents.data<std::int32_t>(), in.documents.dim(0) - 1, in.q.dim(1),
          in.k.dim(1),    in.q.dim(2)};
}

template <class T>
SlotQueries<T> QueriesOfSlots(const Tensor& q, const KeyCache& cache, const Tensor& slots) {
  const Tensor &k = cache.k(), &v = cache.v();
  return {k.data<T>(), v.data<T>(), slots.data<std::int32_t>(), q.dim(1),    k.dim(1), q.dim(2), k.dim(2),
          k.dim(3),    v.dim(3),    cache.sink_tiles(),         cache.ring()};
}

// The attention of the document that row n stands in.
__device__ inline AttentionSpec SpecOfRow(AttentionSpec spec, const std::int32_t* prompts, std::int64_t n) {
  return spec.prompt ? OfDocument(spec, prompts[n]) : spec;
}

// Tiles that some queries see, ascending.
struct TileList {
  VisibleKeys ranges;

  __device__ int count() const { return ranges.sinks.size() + ranges.recent.size(); }
  __device__ int operator[](int i) const {
    return i < ranges.sinks.size() ? ranges.sinks.begin + i : ranges.recent.begin + i - ranges.sinks.size();
  }
  __device__ bool Holds(int tile) const {
    return (tile >= ranges.sinks.begin && tile < ranges.sinks.end) ||
           (tile >= ranges.recent.begin && tile < ranges.recent.end);
  }
};

// Bounds of the positions of some queries. All lanes of a warp hold the same.
struct PositionBounds {
  int least, most;  // of the positions that are not negative; least > most if there are none
  bool blind;       // whether some are negative

  __device__ TileList Tiles(AttentionSpec spec) const { return {VisibleTilesOf(least, most, spec)}; }
  // The recent keys that every query sees.
  __device__ KeyRange SeenByAll(AttentionSpec spec) const {
    if (blind || least > most) return {};
    return {VisibleKeysOf(most, spec).recent.begin, VisibleKeysOf(least, spec).recent.end};
  }
  // Every query sees every key begin <= k < end.
  __device__ bool SeeAll(int begin, int end, AttentionSpec spec) const {
    const KeyRange all = SeenByAll(spec);
    return begin >= all.begin && end <= all.end;
  }
};

// Each lane passes the bounds of any number of positions.
__device__ inline PositionBounds WarpBounds(int least, int most, bool blind) {
  return {__reduce_min_sync(0xffffffffu, least), __reduce_max_sync(0xffffffffu, most),
          __any_sync(0xffffffffu, blind) != 0};
}

// The bounds of rows begin <= r < end of a block.
template <class T>
__device__ PositionBounds BoundsOf(const QueryBlock<T>& b, int begin, int end, const std::int32_t* q_pos,
                                   std::int64_t H) {
  int least = std::numeric_limits<int>::max(), most = -1;
  bool blind = false;
  for (int r = begin + static_cast<int>(threadIdx.x) % kWarp; r < min(end, b.count); r += kWarp) {
    const int position = q_pos[(b.first + r * b.step) / H];
    if (position >= 0) least = min(least, position);
    most = max(most, position);
    blind = blind || position < 0;
  }
  return WarpBounds(least, most, blind);
}

// Tiles of kKeyTile rows of a document in which queries may see one of the keys begin <= k < end. In a regular document
// a query that sees anything stands in the row of its position. The first key may be a sink, and seen to the end; of
// the other keys the last is seen longest.
__device__ inline KeyRange QueryTilesOf(int begin, int end, int length, bool regular, AttentionSpec spec) {
  if (!regular) return {0, TilesOf(length)};
  const KeyRange first = QueriesOf(begin, length - 1, spec), last = QueriesOf(end - 1, length - 1, spec);
  return {first.begin / kKeyTile, TilesOf(max(first.end, last.end))};
}

// What the backward needs to know about queries. It lies in the arena.
template <class Sum>
struct QueryScratch {
  Sum* delta;               // [N, H]: dout . out
  std::int32_t* irregular;  // [documents]: 1 where a query with a position >= 0 is not in the row of that position
};

// scale / ln 2: exp(scale x) = 2^(this x).
inline float ScoreScale2(std::int64_t D) {
  return static_cast<float>(1.4426950408889634074 / std::sqrt(static_cast<double>(D)));
}

// attention_mma.cu, attention_mma_backward.cu, decode/cached_attention.cu: bf16 on tensor cores. The choice of these
// kernels depends on D and dtype alone.
inline bool OnTensorCores(DType dtype, std::int64_t D) { return dtype == DType::kBF16 && D % 8 == 0 && D <= 128; }
void MmaForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in);
void MmaCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in);
// decode/scalar_attention.cu: the forward over a cache without tensor cores.
void ScalarCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in);
void MmaBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& lse,
                 const AttentionInputs& in, const QueryScratch<float>& scratch);

// attention_wgmma.cu: MmaForward by warpgroups, bit for bit, and whether they can.
inline bool OnWarpgroups(const Context& ctx, std::int64_t D) {
  return ctx.stream->has_warpgroups && (D == 64 || D == 128);
}
void WarpgroupForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in);
// attention_backward_wgmma.cu: MmaBackward by warpgroups.
void WarpgroupBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& lse,
                       const AttentionInputs& in, const QueryScratch<float>& scratch);

}  // namespace swarr
