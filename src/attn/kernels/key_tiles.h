// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// How attention sees keys and queries: tiles of keys, laid out for products, and blocks of queries.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "attn/kernels/attention_kernels.h"
#include "tensor/kernels/panels.h"
#include "tensor/kernels/rows.h"

namespace swarr {
namespace {

static_assert(kKeyTile == kPanel, "a tile of keys is one panel of a product");

constexpr std::int64_t kQueryBlock = 32;  // rows of a block: one block of the widest tile kernel

// Sizes, and the kernel of the products.
template <class T>
struct Shape {
  std::int64_t H, G, D;
  std::int64_t group = H / G;                         // query heads of a key head
  std::int64_t value_panels = CeilDiv(D, kPanel);     // panels of columns that a value takes
  std::int64_t width = value_panels * kPanel;         // and their columns
  std::int64_t key_tile = PanelDepth<T>(D) * kPanel;  // elements of a tile with its keys as columns ...
  std::int64_t value_tile = kKeyTile * kPanel;        // ... and of a panel of a tile with its keys as rows
  // The most queries, and the most rows, of a block.
  std::int64_t block_queries = std::max<std::int64_t>(1, kQueryBlock / group);
  std::int64_t block_rows = std::max(kQueryBlock, group);
  const TileKernel<T>& kernel;
  Accumulator<T> scale = Accumulator<T>(1) / std::sqrt(static_cast<Accumulator<T>>(D));
};

// The tiles of one key head of a document or of a cache slot. Keys stand as columns, for products over D, or as rows,
// for products over keys. Tiles of rows that follow one another in memory are one long panel.
template <class T>
struct Tiles {
  T* columns;  // [count, key_tile]
  T* rows;     // [value_panels, count, value_tile]
  std::int64_t count;
  int sink_tiles, ring;

  T* Columns(const Shape<T>& s, int tile) const { return columns + CacheTile(tile, sink_tiles, ring) * s.key_tile; }
  T* Rows(const Shape<T>& s, std::int64_t panel, int tile) const {
    return rows + (panel * count + CacheTile(tile, sink_tiles, ring)) * s.value_tile;
  }
};

template <class T>
Tiles<T> SlotTiles(const Shape<T>& s, const KeyCache& cache, std::int64_t slot, std::int64_t g) {
  const std::int64_t first = (slot * s.G + g) * cache.tiles();
  return {cache.k().data<T>() + first * s.key_tile, cache.v().data<T>() + first * s.value_panels * s.value_tile,
          cache.tiles(), cache.sink_tiles(), cache.ring()};
}

// Calls f(first tile, tiles) for runs of visible tiles that lie together in memory, ascending.
template <class T, class F>
void ForRuns(const VisibleKeys& visible, const Tiles<T>& tiles, F&& f) {
  for (KeyRange range : {visible.sinks, visible.recent}) {
    while (range.begin < range.end) {
      const int in_ring = range.begin < tiles.sink_tiles ? tiles.sink_tiles - range.begin
                                                         : tiles.ring - (range.begin - tiles.sink_tiles) % tiles.ring;
      const int count = std::min(range.size(), in_ring);
      f(range.begin, count);
      range.begin += count;
    }
  }
}

int Count(const VisibleKeys& visible) { return visible.sinks.size() + visible.recent.size(); }

// Consecutive queries of one document or slot.
struct Block {
  std::int64_t row;    // of the first query
  std::int64_t count;  // queries
  int first_pos;       // of the first query; the others follow. Negative: one query, which sees nothing
  std::int64_t owner;  // document or slot
  int last_pos() const { return first_pos + static_cast<int>(count) - 1; }
};

// The attention of row n, of either kind of inputs; all rows of a block have the same.
template <class Inputs>
AttentionSpec SpecOfRow(const Inputs& in, std::int64_t n) {
  return in.spec.prompt ? OfDocument(in.spec, in.prompts.template data<std::int32_t>()[n]) : in.spec;
}

// Cuts rows into blocks. owner(n) is the document or slot of row n.
template <class F>
std::int64_t CutBlocks(const Tensor& q_pos, std::int64_t most, F&& owner, Block* blocks) {
  const std::int32_t* pos = q_pos.data<std::int32_t>();
  std::int64_t count = 0;
  for (std::int64_t n = 0; n < q_pos.dim(0); ++n) {
    Block* last = count > 0 ? &blocks[count - 1] : nullptr;
    const bool extends =
        last && last->first_pos >= 0 && pos[n] == last->last_pos() + 1 && owner(n) == last->owner && last->count < most;
    if (extends) {
      ++last->count;
    } else {
      blocks[count++] = {n, 1, pos[n], owner(n)};
    }
  }
  return count;
}

// A block's rows of one key head.
struct HeadTask {
  std::int64_t block, head;
};
// All of them, owner after owner and head after head, so that one thread has a head's keys for many blocks.
const HeadTask* HeadTasks(Arena& arena, const Block* blocks, std::int64_t count, std::int64_t G) {
  HeadTask* tasks = arena.NewArray<HeadTask>(count * G);
  HeadTask* task = tasks;
  for (std::int64_t begin = 0, end = 0; begin < count; begin = end) {
    while (end < count && blocks[end].owner == blocks[begin].owner) ++end;
    for (std::int64_t g = 0; g < G; ++g) {
      for (std::int64_t i = begin; i < end; ++i) *task++ = {i, g};
    }
  }
  return tasks;
}

// Keys that are weighted together: a segment of packed weights. It divides a tile.
template <class T>
constexpr int kUnit = static_cast<int>(kSegment<T>);

// What a query sees of the tiles that its block visits: keys [0, sinks) and [begin, end), counted as if these tiles
// followed one another.
struct SeenKeys {
  int sinks, begin, end;
};

// What the rows of a block see.
struct BlockSight {
  int first_pos;
  std::int64_t group;
  AttentionSpec spec;
  VisibleKeys tiles = {};  // that one of them sees

  BlockSight(const Block& b, std::int64_t heads, AttentionSpec seen)
      : first_pos(b.first_pos), group(heads), spec(seen), tiles(VisibleTilesOf(b.first_pos, b.last_pos(), seen)) {}

  std::int64_t keys() const { return std::int64_t{tiles.sinks.size() + tiles.recent.size()} * kKeyTile; }

  SeenKeys SeenBy(std::int64_t r) const {
    const VisibleKeys sees = VisibleKeysOf(first_pos + static_cast<int>(group == 1 ? r : r / group), spec);
    const int before = (tiles.recent.begin - tiles.sinks.size()) * kKeyTile;
    return {sees.sinks.end, sees.recent.begin - before, sees.recent.end - before};
  }

  // The units that one of `count` rows from r on sees: two ascending ranges.
  template <class T>
  VisibleKeys Units(std::int64_t r, std::int64_t count) const {
    const SeenKeys first = SeenBy(r), last = SeenBy(r + count - 1);
    const auto ceil = [](int keys) { return static_cast<int>(CeilDiv(keys, kUnit<T>)); };
    const int sinks = ceil(last.sinks);
    return {{0, sinks}, {std::max(sinks, first.begin / kUnit<T>), ceil(last.end)}};
  }
};

// How a block's scores lie: numbers from a row to the next, and from a tile of keys to the next. The forward, which
// goes through rows, has them row after row. The backward multiplies by them tile after tile: there a tile is a panel
// of all rows. Some numbers between tiles keep those of a row from falling into the same places of the nearest cache.
struct ScoreSteps {
  std::int64_t row, tile;
  [[gnu::always_inline]] std::int64_t At(std::int64_t r, std::int64_t key) const {
    return r * row + key / kKeyTile * tile + key % kKeyTile;
  }
  static ScoreSteps ByRow(std::int64_t keys) { return {keys, kKeyTile}; }
  static ScoreSteps ByTile(std::int64_t rows) { return {kKeyTile, rows * kKeyTile + kSegment<float>}; }
};

// Row r of a block is query r / group, head g * group + r % group. Returns its row of [N, H].
template <class T>
std::int64_t HeadOf(const Shape<T>& s, const Block& b, std::int64_t g, std::int64_t r) {
  if (s.group == 1) return (b.row + r) * s.H + g;  // most often, and without divisions
  return (b.row + r / s.group) * s.H + g * s.group + r % s.group;
}

// Asks for a head of x that is read, or written, soon. Rows of one head lie apart, so that the processor does not
// foresee them. Inlined, as who calls it should be: g++ drops calls of a function that does nothing else.
template <class T, class X>
[[gnu::always_inline]] inline void Fetch(const Shape<T>& s, X* head) {
  for (std::int64_t d = 0; d < s.D; d += kSegment<T>) __builtin_prefetch(head + d, std::is_const_v<X> ? 0 : 1);
}

// The rows of a block, of from [N, H, D]: where they are, if they lie evenly there, else gathered into `room`.
template <class T>
Strided<T> RowsOf(const Shape<T>& s, const Block& b, std::int64_t g, const T* from, T* room) {
  const T* first = from + HeadOf(s, b, g, 0) * s.D;
  if (s.group == 1 || s.G == 1) return {first, (s.group == 1 ? s.H : 1) * s.D, 1};
  for (std::int64_t r = 0; r < b.count * s.group; ++r) {
    std::copy_n(from + HeadOf(s, b, g, r) * s.D, s.D, room + r * s.D);
  }
  return {room, s.D, 1};
}

}  // namespace
}  // namespace swarr
