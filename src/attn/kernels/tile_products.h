// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The products of a block's rows with the tiles of keys that it visits.
#pragma once

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
      MultiplyPanels(s.kernel, a, 0, rows, at_once, s.D, tiles.Columns(s, tile), s.key_tile, /*accumulate=*/false,
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
                            values + (k0 - first) * kPanel, tiles.count * s.value_tile, begun, o + i * s.width,
                            s.width);
          begun = true;
        }
      }
      tile += at_once, first = last;
    }
  });
}

}  // namespace
}  // namespace swarr
