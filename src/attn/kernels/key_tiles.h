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

// The tiles of one document or cache slot. Keys stand as columns, for products over D, or as rows, for products over
// keys. Tiles of rows that follow one another in memory are one long panel.
template <class T>
struct Tiles {
  T* columns;  // [G, count, key_tile]
  T* rows;     // [G, value_panels, count, value_tile]
  std::int64_t count;
  int sink_tiles = 0, ring = std::numeric_limits<int>::max();

  T* Columns(const Shape<T>& s, std::int64_t g, int tile) const {
    return columns + (g * count + CacheTile(tile, sink_tiles, ring)) * s.key_tile;
  }
  T* Rows(const Shape<T>& s, std::int64_t g, std::int64_t panel, int tile) const {
    return rows + ((g * s.value_panels + panel) * count + CacheTile(tile, sink_tiles, ring)) * s.value_tile;
  }
};

template <class T>
Tiles<T> SlotTiles(const Shape<T>& s, const KeyCache& cache, std::int64_t slot) {
  const std::int64_t first = slot * s.G * cache.tiles();
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

// How a block's scores lie: numbers from a row to the next, and from a tile of keys to the next. The forward, which
// goes through rows, has them row after row. The backward multiplies by them tile after tile: there a tile is a panel
// of all rows. Some numbers between tiles keep those of a row from falling into the same places of the nearest cache.
struct ScoreSteps {
  std::int64_t row, tile;
  static ScoreSteps ByRow(std::int64_t tiles) { return {tiles * kKeyTile, kKeyTile}; }
  static ScoreSteps ByTile(std::int64_t rows) { return {kKeyTile, rows * kKeyTile + kSegment<float>}; }
};

// Row r of a block is query r / group, head g * group + r % group. Returns its row of [N, H].
template <class T>
std::int64_t HeadOf(const Shape<T>& s, const Block& b, std::int64_t g, std::int64_t r) {
  return (b.row + r / s.group) * s.H + g * s.group + r % s.group;
}

template <class T>
void Gather(const Shape<T>& s, const Block& b, std::int64_t g, const T* from, T* to) {
  for (std::int64_t r = 0; r < b.count * s.group; ++r) std::copy_n(from + HeadOf(s, b, g, r) * s.D, s.D, to + r * s.D);
}

// The keys of whole documents in tiles. Document d has the tiles [first[d], first[d + 1]).
template <class T>
struct DocumentTiles {
  const std::int32_t* first_row;
  std::int64_t* first;
  T *columns, *rows;

  // As columns, as rows, or both.
  DocumentTiles(const Context& ctx, const Shape<T>& s, const Tensor& x, const Tensor& documents, bool as_columns,
                bool as_rows)
      : first_row(documents.data<std::int32_t>()), columns(nullptr), rows(nullptr) {
    const std::int64_t docs = documents.dim(0) - 1;
    first = ctx.arena->NewArray<std::int64_t>(documents.dim(0));
    first[0] = 0;
    for (std::int64_t d = 0; d < docs; ++d) first[d + 1] = first[d] + TilesOf(first_row[d + 1] - first_row[d]);
    if (as_columns) columns = ctx.arena->NewArray<T>(first[docs] * s.G * s.key_tile);
    if (as_rows) rows = ctx.arena->NewArray<T>(first[docs] * s.G * s.value_panels * s.value_tile);
    const T* from = x.data<T>();
    // A tile of all heads together: its rows lie one after another.
    ForRanges(ThreadsFor(ctx, x.size()), first[docs], [&](std::int64_t begin, std::int64_t end) {
      std::int64_t d = 0;
      for (std::int64_t n = begin; n < end; ++n) {
        while (n >= first[d + 1]) ++d;
        for (std::int64_t g = 0; g < s.G; ++g) PackKeys(s, d, g, static_cast<int>(n - first[d]), from);
      }
    });
  }

  Tiles<T> Of(const Shape<T>& s, std::int64_t d) const {
    return {columns ? columns + first[d] * s.G * s.key_tile : nullptr,
            rows ? rows + first[d] * s.G * s.value_panels * s.value_tile : nullptr, first[d + 1] - first[d]};
  }

 private:
  void PackKeys(const Shape<T>& s, std::int64_t d, std::int64_t g, int tile, const T* x) const {
    const Tiles<T> tiles = Of(s, d);
    const std::int64_t row = first_row[d] + std::int64_t{tile} * kKeyTile;
    const std::int64_t valid = std::min<std::int64_t>(kKeyTile, first_row[d + 1] - row);
    const T* from = x + (row * s.G + g) * s.D;
    if (columns) PackPanel(Strided<T>{from, 1, s.G * s.D}, s.D, valid, tiles.Columns(s, g, tile));
    for (std::int64_t c = 0; rows && c < s.value_panels; ++c) {
      T* to = tiles.Rows(s, g, c, tile);
      if (valid < kKeyTile) std::fill(to, to + s.value_tile, T());
      PackPanel(Strided<T>{from + c * kPanel, s.G * s.D, 1}, valid, std::min(kPanel, s.D - c * kPanel), to);
    }
  }
};

}  // namespace
}  // namespace swarr
