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

// A tile kernel's `pack`. Each segment of k gets a multiple of kMultiple rows: the first `rows` are filled, the others
// zero. Zeros follow beyond depth. To is T, or the f32 that bf16 is widened to.
template <class T, class To, int kMultiple>
inline void PackTile(Strided<T> a, int rows, std::int64_t depth, std::byte* packed) {
  constexpr std::int64_t kBlock = kSegment<T>;
  const std::int64_t stride = RoundUp(rows, kMultiple);
  To* to = reinterpret_cast<To*>(packed);
  for (std::int64_t k0 = 0; k0 < depth; k0 += kBlock, to += stride * kBlock) {
    const std::int64_t block = std::min(depth - k0, kBlock);
    std::fill(to + rows * kBlock, to + stride * kBlock, To());
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
        for (std::int64_t k = 0; k < kBlock; ++k) out[k] = static_cast<To>(from[k]);
      } else {
        for (std::int64_t k = 0; k < kBlock; ++k) {
          out[k] = k < block ? static_cast<To>(from[k * a.column_stride]) : To();
        }
      }
    }
  }
}

template <class T>
inline void PackRows(const TileKernel<T>& kernel, Strided<T> a, std::int64_t rows, std::int64_t depth, std::byte* to) {
  for (std::int64_t i = 0; i < rows; i += kernel.rows) {
    const int tile = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - i));
    kernel.pack(a.From(i, 0), tile, depth, to);
    to += kernel.PackedBytes(tile, depth);
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
    a += kernel.PackedBytes(tile, depth);
  }
}

}  // namespace
}  // namespace swarr
