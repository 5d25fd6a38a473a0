// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The keys and values of whole documents in tiles, as far as a thread needs them at a time.
#pragma once

#include "attn/kernels/key_tiles.h"

namespace swarr {
namespace {

int LongestTiles(const Tensor& documents) {
  const std::int32_t* first_row = documents.data<std::int32_t>();
  int longest = 0;
  for (std::int64_t d = 0; d + 1 < documents.dim(0); ++d) {
    longest = std::max(longest, TilesOf(first_row[d + 1] - first_row[d]));
  }
  return longest;
}

// The most tiles that a thread keeps of any document.
template <class T>
int KeptTiles(const Shape<T>& s, AttentionSpec spec, const Tensor& documents) {
  return CacheTiles(spec, LongestTiles(documents) * kKeyTile, static_cast<int>(s.block_queries));
}

// A thread's own tiles of keys or values, of one head of a document at a time. They are packed when a block first sees
// them, so that they are still in the nearer caches when its products read them, and kept as a cache keeps those of a
// slot.
template <class T>
class OwnTiles {
 public:
  // Room for `count` tiles (KeptTiles), as columns, as rows, or both.
  OwnTiles(Arena& arena, const Shape<T>& s, AttentionSpec spec, int count, bool as_columns, bool as_rows) {
    const int sinks = std::min(SinkTiles(spec), count);
    tiles_ = {as_columns ? arena.NewArray<T>(count * s.key_tile) : nullptr,
              as_rows ? arena.NewArray<T>(count * s.value_panels * s.value_tile) : nullptr, count, sinks,
              std::max(1, count - sinks)};
  }

  // The tiles of keys x [length], which lie G * D apart, with the visible ones packed.
  const Tiles<T>& Of(const Shape<T>& s, const T* x, std::int64_t length, const VisibleKeys& visible) {
    const bool goes_on = x == x_ && recent_.begin <= visible.recent.begin && visible.recent.begin <= recent_.end;
    if (!goes_on) x_ = x, sinks_ = 0, recent_ = {visible.recent.begin, visible.recent.begin};
    for (; sinks_ < visible.sinks.end; ++sinks_) Pack(s, length, sinks_);
    for (; recent_.end < visible.recent.end; ++recent_.end) Pack(s, length, recent_.end);
    recent_.begin = visible.recent.begin;
    return tiles_;
  }

 private:
  void Pack(const Shape<T>& s, std::int64_t length, int tile) const {
    const std::int64_t row = std::int64_t{tile} * kKeyTile, valid = std::min<std::int64_t>(kKeyTile, length - row);
    const T* from = x_ + row * s.G * s.D;
    if (tiles_.columns) PackPanel(Strided<T>{from, 1, s.G * s.D}, s.D, valid, tiles_.Columns(s, tile));
    for (std::int64_t c = 0; tiles_.rows && c < s.value_panels; ++c) {
      T* to = tiles_.Rows(s, c, tile);
      if (valid < kKeyTile) std::fill(to, to + s.value_tile, T());
      PackPanel(Strided<T>{from + c * kPanel, s.G * s.D, 1}, valid, std::min(kPanel, s.D - c * kPanel), to);
    }
  }

  Tiles<T> tiles_;
  const T* x_ = nullptr;
  int sinks_ = 0;         // tiles of sinks that are packed
  KeyRange recent_ = {};  // and others
};

}  // namespace
}  // namespace swarr
