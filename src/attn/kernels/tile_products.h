// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The products of a block's rows with the tiles of keys that it visits.
#pragma once

#include <span>

#include "attn/kernels/key_tiles.h"

namespace swarr {
namespace {

// scores = x k^T for the visible tiles, x [rows, D]. All rows meet a tile, or two where these lie side by side in the
// scores, before the next, so that it is read once from the farther caches, unless they are one tile of the kernel's.
template <class T>
void MultiplyKeys(const Shape<T>& s, const Tiles<T>& tiles, const VisibleKeys& visible, std::int64_t rows, Strided<T> x,
                  std::byte* packed, Accumulator<T>* scores, ScoreSteps steps) {
  const BlockRows<T> a = PackOrReadInPlace(s.kernel, x, rows, s.D, packed);
  ForRuns(visible, tiles, [&](int tile, int count) {
    const int most = steps.tile != kKeyTile ? 1 : rows <= s.kernel.rows ? count : 2;
    for (const int end = tile + count; tile < end;) {
      const int at_once = std::min(most, end - tile);
      MultiplyPanels(s.kernel, a, 0, rows, at_once, s.D, {tiles.Columns(s, tile), s.key_tile}, /*accumulate=*/false,
                     scores, steps.row);
      tile += at_once, scores += at_once * steps.tile;
    }
  });
}

// o[rows, width] = p v over the visible tiles, p [rows, keys] packed. All rows meet a few tiles of values before the
// next. A tile of the kernel's leaves out the units that none of its rows sees.
template <class T>
void MultiplyValues(const Shape<T>& s, const Tiles<T>& tiles, const BlockSight& sight, std::int64_t rows,
                    const std::byte* p, Accumulator<T>* o) {
  const BlockRows<T> weights{p, sight.keys(), 0};
  int first = 0;  // key of these tiles
  ForRuns(sight.tiles, tiles, [&](int tile, int count) {
    const int most = rows > s.kernel.rows ? 4 : count;
    for (const int end = tile + count; tile < end;) {
      const int at_once = std::min(most, end - tile), last = first + at_once * kKeyTile;
      const T* values = tiles.Rows(s, 0, tile);
      for (std::int64_t i = 0; i < rows; i += s.kernel.rows) {
        const std::int64_t height = std::min<std::int64_t>(s.kernel.rows, rows - i);
        const VisibleKeys units = sight.Units<T>(i, height);
        bool begun = first > 0 && (units.sinks.end > 0 || units.recent.begin * kUnit<T> < first);
        for (const KeyRange range : {units.sinks, units.recent}) {
          const int k0 = std::max(range.begin * kUnit<T>, first), k1 = std::min(range.end * kUnit<T>, last);
          if (k0 >= k1) continue;
          s.kernel.multiply(static_cast<int>(height), s.value_panels, k1 - k0, weights.Tile(s.kernel, i, height, k0),
                            {values + (k0 - first) * kPanel, tiles.count * s.value_tile}, begun, o + i * s.width,
                            s.width);
          begun = true;
        }
      }
      tile += at_once, first = last;
    }
  });
}

// One query of several heads, each with keys and values of its own: calls f(h, tiles, first key, end, first tile) for
// as many heads from h on as a kernel multiplies side by side, and for runs of tiles that lie together.
template <class T, class F, class G>
void ForHeads(std::int64_t heads, const VisibleKeys& visible, const F& tiles_of, const G& f) {
  constexpr int kEach = TileKernel<T>::kEach;
  for (std::int64_t h = 0; h < heads; h += kEach) {
    Tiles<T> tiles[kEach];
    const int rows = static_cast<int>(std::min<std::int64_t>(kEach, heads - h));
    for (int i = 0; i < rows; ++i) tiles[i] = tiles_of(h + i);
    int first = 0;
    ForRuns(visible, tiles[0], [&](int tile, int count) {
      f(h, std::span<const Tiles<T>>(tiles, rows), first, first + count * kKeyTile, tile);
      first += count * kKeyTile;
    });
  }
}

// c rows [h, h + rows), from column `column` on, (+)= rows h, ... of a from k0 on, each times its panel(i).
template <class T, class F>
void MultiplyEach(const TileKernel<T>& kernel, const BlockRows<T>& a, std::int64_t heads, std::int64_t h,
                  std::size_t rows, std::int64_t k0, std::int64_t depth, const F& panel, bool accumulate,
                  Accumulator<T>* c, std::int64_t c_stride) {
  TileRows row[TileKernel<T>::kEach];
  const T* b[TileKernel<T>::kEach];
  for (std::size_t i = 0; i < rows; ++i) {
    row[i] = a.Row(kernel, heads, h + static_cast<std::int64_t>(i), k0);
    b[i] = panel(i);
  }
  kernel.multiply_each(static_cast<int>(rows), depth, row, b, accumulate, c + h * c_stride, c_stride);
}

// scores = x k^T, x [heads, D], for the visible tiles of each head: tiles_of(h).
template <class T, class F>
void MultiplyOwnKeys(const Shape<T>& s, const F& tiles_of, const VisibleKeys& visible, const T* x, std::byte* packed,
                     Accumulator<T>* scores, ScoreSteps steps) {
  const BlockRows<T> a = PackOrReadInPlace(s.kernel, Strided<T>{x, s.D, 1}, s.H, s.D, packed);
  ForHeads<T>(
      s.H, visible, tiles_of, [&](std::int64_t h, std::span<const Tiles<T>> tiles, int first, int end, int tile) {
        for (; first < end; first += kKeyTile, ++tile) {
          MultiplyEach(
              s.kernel, a, s.H, h, tiles.size(), 0, s.D, [&](std::size_t i) { return tiles[i].Columns(s, tile); },
              /*accumulate=*/false, scores + first, steps.row);
        }
      });
}

// o = p v, p [heads, keys] packed, without the units that the query does not see.
template <class T, class F>
void MultiplyOwnValues(const Shape<T>& s, const F& tiles_of, const BlockSight& sight, const std::byte* p,
                       Accumulator<T>* o) {
  const BlockRows<T> weights{p, sight.keys(), 0};
  const VisibleKeys units = sight.Units<T>(0, s.H);
  const int seen_first = units.sinks.size() > 0 ? 0 : units.recent.begin * kUnit<T>;
  ForHeads<T>(s.H, sight.tiles, tiles_of,
              [&](std::int64_t h, std::span<const Tiles<T>> tiles, int first, int end, int tile) {
                for (const KeyRange range : {units.sinks, units.recent}) {
                  const int k0 = std::max(range.begin * kUnit<T>, first), k1 = std::min(range.end * kUnit<T>, end);
                  if (k0 >= k1) continue;
                  for (std::int64_t c = 0; c < s.value_panels; ++c) {
                    MultiplyEach(
                        s.kernel, weights, s.H, h, tiles.size(), k0, k1 - k0,
                        [&](std::size_t i) { return tiles[i].Rows(s, c, tile) + (k0 - first) * kPanel; },
                        /*accumulate=*/k0 > seen_first, o + c * kPanel, s.width);
                  }
                }
              });
}

}  // namespace
}  // namespace swarr
