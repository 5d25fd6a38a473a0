// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Packing of operands for the tile kernels, and products of more rows than a tile has.
#pragma once

#include <algorithm>
#include <cstring>

#include "tensor/kernels/tile_kernel.h"
#include "tensor/kernels/transpose.h"

namespace swarr {
namespace {

// Rows of k that are packed of all tiles, or of all panels, before the next: what lies side by side in memory is read
// together.
constexpr std::int64_t kPackDepth = 64;

// Packs rows [0, depth) and columns [0, valid) of b as a panel, valid <= kPanel. The other columns, and the rows up to
// PanelDepth, become zero.
template <class T>
inline void PackPanel(Strided<T> b, std::int64_t depth, std::int64_t valid, T* to) {
  constexpr std::int64_t kPair = kPairing<T>;
  constexpr bool kWords = sizeof(T) * kPair == sizeof(Word);  // a row, or pair of rows, of a panel is kPanel words
  const std::int64_t padded = PanelDepth<T>(depth);
  if (valid < kPanel || padded > depth) std::fill(to, to + padded * kPanel, T());
  if constexpr (kWords && kPair == 2) {
    if (b.column_stride == 1) {
      const PairedRows pairs{reinterpret_cast<const std::uint16_t*>(b.data), b.row_stride, depth};
      return CopyRows(pairs, (depth + 1) / 2, valid, reinterpret_cast<Word*>(to), kPanel);
    }
  }
  if constexpr (kWords) {
    if (b.row_stride == 1 && depth % kPair == 0 &&
        b.column_stride % kPair == 0) {  // whole words along the columns of b
      const WordRows columns{reinterpret_cast<const Word*>(b.data), b.column_stride / kPair};
      return Transpose(columns, valid, depth / kPair, reinterpret_cast<Word*>(to), kPanel, kPanel);
    }
  }
  if constexpr (kPair == 1) {
    if (b.column_stride == 1) {
      for (std::int64_t k = 0; k < depth; ++k) {
        const T* from = b.data + k * b.row_stride;
        if (valid == kPanel) {
          std::memcpy(to + k * kPanel, from, sizeof(T) * kPanel);
        } else {
          std::copy_n(from, valid, to + k * kPanel);
        }
      }
      return;
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t j = 0; j < valid; ++j) {
      to[PanelIndex<T>(k, j)] = b.data[k * b.row_stride + j * b.column_stride];
    }
  }
}

// The same of panels [begin, end) of `columns` columns, each `stride` behind the one before it.
template <class T>
inline void PackPanels(Strided<T> b, std::int64_t depth, std::int64_t columns, std::int64_t begin, std::int64_t end,
                       T* to, std::int64_t stride) {
  for (std::int64_t k = 0; k < depth; k += kPackDepth) {
    for (std::int64_t p = begin; p < end; ++p) {
      PackPanel(b.From(k, p * kPanel), std::min(kPackDepth, depth - k), std::min(kPanel, columns - p * kPanel),
                to + p * stride + k * kPanel);
    }
  }
}

// A tile kernel's `pack`. Zeros follow beyond depth. To is T, or the f32 that bf16 is widened to.
template <class T, class To>
inline void PackTile(Strided<T> a, int rows, std::int64_t depth, std::byte* packed) {
  constexpr std::int64_t kBlock = kSegment<T>;
  To* to = reinterpret_cast<To*>(packed);
  for (std::int64_t k0 = 0; k0 < depth; k0 += kBlock, to += rows * kBlock) {
    const std::int64_t block = std::min(depth - k0, kBlock);
    const T* from = a.data + k0 * a.column_stride;
    if constexpr (std::is_same_v<T, To> && sizeof(T) * kPairing<T> == sizeof(Word)) {
      if (a.row_stride == 1) {  // a transposed: words are its elements, or pairs of its rows k
        auto* words = reinterpret_cast<Word*>(to);
        constexpr std::int64_t kWords = kBlock / kPairing<T>;
        if constexpr (kPairing<T> == 2) {
          const PairedRows pairs{reinterpret_cast<const std::uint16_t*>(from), a.column_stride, block};
          Transpose(pairs, (block + 1) / 2, rows, words, kWords, kWords);
        } else {
          const WordRows elements{reinterpret_cast<const Word*>(from), a.column_stride};
          Transpose(elements, block, rows, words, kWords, kWords);
        }
        continue;
      }
    }
    for (int i = 0; i < rows; ++i, from += a.row_stride) {
      To* out = to + i * kBlock;
      if (a.column_stride == 1 && block == kBlock) {
        if constexpr (std::is_same_v<T, To>) {
          std::memcpy(out, from, sizeof(T) * kBlock);
        } else {
          for (std::int64_t k = 0; k < kBlock; ++k) out[k] = static_cast<To>(from[k]);
        }
      } else {
        for (std::int64_t k = 0; k < kBlock; ++k) {
          out[k] = k < block ? static_cast<To>(from[k * a.column_stride]) : To();
        }
      }
    }
  }
}

// Rows of a block of a, as a tile kernel reads them: packed for a depth, in place, or as columns of a transposed block.
template <class T>
struct BlockRows {
  const std::byte* data;
  std::int64_t depth;     // that they were packed for
  std::int64_t stride;    // in place: elements between rows; packed: 0
  std::int64_t step = 1;  // transposed: elements from k to k + 1

  // `count` rows from row i, a multiple of the kernel's rows, and from k0, a multiple of kSegment.
  [[gnu::always_inline]] TileRows Tile(const TileKernel<T>& kernel, std::int64_t i, std::int64_t count,
                                       std::int64_t k0) const {
    if (step != 1) return {data + (i + k0 * step) * kernel.packed_size, 1, kSegment<T> * step, step};
    if (stride > 0) return {data + (i * stride + k0) * kernel.packed_size, stride, kSegment<T>};
    return {data + kernel.PackedBytes(i, depth) + k0 * count * kernel.packed_size, kSegment<T>, count * kSegment<T>};
  }

  // Row i of `rows` packed ones alone, from k0.
  [[gnu::always_inline]] TileRows Row(const TileKernel<T>& kernel, std::int64_t rows, std::int64_t i,
                                      std::int64_t k0) const {
    const std::int64_t tile = i / kernel.rows * kernel.rows;
    TileRows row = Tile(kernel, tile, std::min<std::int64_t>(kernel.rows, rows - tile), k0);
    row.data += (i - tile) * row.row * kernel.packed_size;
    return row;
  }
};

template <class T>
inline BlockRows<T> PackRows(const TileKernel<T>& kernel, Strided<T> a, std::int64_t rows, std::int64_t depth,
                             std::byte* to) {
  const std::int64_t step = a.row_stride == 1 ? kPackDepth : depth;
  for (std::int64_t k = 0; k < depth; k += step) {
    for (std::int64_t i = 0; i < rows; i += kernel.rows) {
      const std::int64_t tile = std::min<std::int64_t>(kernel.rows, rows - i);
      const std::int64_t at = kernel.PackedBytes(i, depth) + k * tile * kernel.packed_size;
      kernel.pack(a.From(i, k), static_cast<int>(tile), std::min(step, depth - k), to + at);
    }
  }
  return {to, depth, 0};
}

// Whether rows of a stand as columns, one k after another. A kernel reads them there.
template <class T>
[[gnu::always_inline]] inline bool StandAsColumns(Strided<T> a) {
  return kPairing<T> == 1 && a.row_stride == 1 && a.column_stride != 1;
}
// But what lies this many bytes apart shares a few places of the nearer caches, and would come from far for every tile.
// Such a block is copied, with other distances.
constexpr std::int64_t kSharedPlaces = 2048;
// From k to k + 1 of such a copy: an odd number of cache lines.
template <class T>
[[gnu::always_inline]] inline std::int64_t ColumnStep(std::int64_t rows) {
  return (CeilDiv(rows, kSegment<T>) | 1) * kSegment<T>;
}
template <class T>
inline BlockRows<T> CopyColumns(Strided<T> a, std::int64_t rows, std::int64_t depth, std::byte* room) {
  const std::int64_t step = ColumnStep<T>(rows);
  T* to = reinterpret_cast<T*>(room);
  for (std::int64_t k = 0; k < depth; ++k, to += step) {
    const T* __restrict from = a.data + k * a.column_stride;
    T* __restrict column = to;
    for (std::int64_t i = 0; i < rows; ++i) column[i] = from[i];
  }
  return {room, depth, 0, step};
}

// The rows where they are, if the kernel can read them there, else a copy. It takes up to BlockBytes of `room`.
template <class T>
inline BlockRows<T> PackOrReadInPlace(const TileKernel<T>& kernel, Strided<T> a, std::int64_t rows, std::int64_t depth,
                                      std::byte* room) {
  const auto* where = reinterpret_cast<const std::byte*>(a.data);
  if (StandAsColumns(a)) {
    const bool crowded = a.column_stride * static_cast<std::int64_t>(sizeof(T)) % kSharedPlaces == 0;
    return crowded ? CopyColumns(a, rows, depth, room) : BlockRows<T>{where, depth, 0, a.column_stride};
  }
  if (a.column_stride != 1 || !kernel.MayReadInPlace(depth)) return PackRows(kernel, a, rows, depth, room);
  return {where, depth, a.row_stride};
}
template <class T>
inline std::int64_t BlockBytes(const TileKernel<T>& kernel, std::int64_t rows, std::int64_t depth) {
  return std::max(kernel.PackedBytes(rows, depth), ColumnStep<T>(rows) * depth * static_cast<std::int64_t>(sizeof(T)));
}

// What is read for the first time, or again after much else, and so lies far away: it is asked for in time. Asking for
// an address beyond the last is allowed, and does nothing.
template <class T>
struct Ahead {
  bool rows = false;         // of a, of which the processor sees short pieces a row apart, and guesses nothing
  PanelView<T> panels = {};  // that come next, as many and as deep

  // The part that the full tile from row i of `rows` on asks for.
  [[gnu::always_inline]] const std::byte* Part(std::int64_t i, std::int64_t rows, std::int64_t count,
                                               std::int64_t depth) const {
    if (!panels.data) return nullptr;
    const std::int64_t panel = i * count / rows, k = (i * count - panel * rows) * depth / rows;
    return reinterpret_cast<const std::byte*>(panels.From(panel, 0).data + k * kPanel);
  }
};

// Asks for k [k0, k0 + depth) of rows that are read in place. Inlined: the compiler drops calls that do nothing else.
template <class T>
[[gnu::always_inline]] inline void FetchRows(const BlockRows<T>& a, std::int64_t begin, std::int64_t end,
                                             std::int64_t k0, std::int64_t depth) {
  if (a.stride == 0) return;
  for (std::int64_t i = begin; i < end; ++i) {
    const T* row = reinterpret_cast<const T*>(a.data) + i * a.stride + k0;
    for (std::int64_t k = 0; k < depth; k += kSegment<T>) __builtin_prefetch(row + k);
  }
}

// c[rows, panels * kPanel] (+)= the rows' k [k0, k0 + depth) times so many panels.
template <class T>
inline void MultiplyPanels(const TileKernel<T>& kernel, const BlockRows<T>& a, std::int64_t k0, std::int64_t rows,
                           std::int64_t panels, std::int64_t depth, const PanelView<T>& b, bool accumulate,
                           Accumulator<T>* c, std::int64_t c_stride, const Ahead<T>& ahead = {}) {
  for (std::int64_t i = 0; i < rows; i += kernel.rows) {
    const std::int64_t count = std::min<std::int64_t>(kernel.rows, rows - i), next = i + count;
    TileRows tile = a.Tile(kernel, i, count, k0);
    if (kernel.fetches_ahead && count == kernel.rows) {
      if (ahead.rows) FetchRows(a, next, std::min(next + kernel.rows, rows), k0, depth);
      tile.ahead = ahead.Part(i, rows, panels, depth);
    }
    kernel.multiply(static_cast<int>(count), panels, depth, tile, b, accumulate, c + i * c_stride, c_stride);
  }
}

}  // namespace
}  // namespace swarr
