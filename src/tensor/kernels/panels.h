// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Packing of operands for the tile kernels, and products of more rows than a tile has.
#pragma once

#include <algorithm>

#include "tensor/kernels/tile_kernel.h"
#include "tensor/kernels/transpose.h"

namespace swarr {
namespace {

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
      auto* words = reinterpret_cast<Word*>(to);
      for (std::int64_t k = 0; k < (depth + 1) / 2; ++k, words += kPanel) {
        const std::uint16_t *even = pairs.data + 2 * k * pairs.stride, *odd = even + pairs.stride;
        if (2 * k + 1 == depth) odd = nullptr;
        for (std::int64_t j = 0; j < valid; ++j) words[j] = even[j] | (odd ? Word{odd[j]} << 16 : Word{0});
      }
      return;
    }
  }
  if constexpr (kWords) {
    if (b.row_stride == 1 && depth % kPair == 0 &&
        b.column_stride % kPair == 0) {  // whole words along the columns of b
      const WordRows columns{reinterpret_cast<const Word*>(b.data), b.column_stride / kPair};
      return Transpose(columns, valid, depth / kPair, reinterpret_cast<Word*>(to), kPanel, kPanel);
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t j = 0; j < valid; ++j) {
      to[PanelIndex<T>(k, j)] = b.data[k * b.row_stride + j * b.column_stride];
    }
  }
}

// Bytes of `rows` packed rows: tiles of up to kernel.rows.
template <class T>
inline std::int64_t PackedRowsBytes(const TileKernel<T>& kernel, std::int64_t rows, std::int64_t depth) {
  const std::int64_t rest = rows % kernel.rows;
  return rows / kernel.rows * kernel.packed_bytes(kernel.rows, depth) +
         (rest > 0 ? kernel.packed_bytes(static_cast<int>(rest), depth) : 0);
}

template <class T>
inline void PackRows(const TileKernel<T>& kernel, Strided<T> a, std::int64_t rows, std::int64_t depth, std::byte* to) {
  for (std::int64_t i = 0; i < rows; i += kernel.rows) {
    const int tile = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - i));
    kernel.pack(a.From(i, 0), tile, depth, to);
    to += kernel.packed_bytes(tile, depth);
  }
}

// c[rows, panels * kPanel] (+)= packed rows times panels that lie b_stride apart.
template <class T>
inline void MultiplyPanels(const TileKernel<T>& kernel, std::int64_t rows, std::int64_t panels, std::int64_t depth,
                           const std::byte* a, const T* b, std::int64_t b_stride, bool accumulate, Accumulator<T>* c,
                           std::int64_t c_stride) {
  for (std::int64_t i = 0; i < rows; i += kernel.rows) {
    const int tile = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - i));
    kernel.multiply(tile, panels, depth, a, b, b_stride, accumulate, c + i * c_stride, c_stride);
    a += kernel.packed_bytes(tile, depth);
  }
}

}  // namespace
}  // namespace swarr
