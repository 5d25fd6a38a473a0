// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Transposition of matrices of 32-bit words, the inner loop of packing: f32, or pairs of bf16.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace swarr {
namespace {

using Word = std::uint32_t;

#ifdef __AVX512F__
// 16 x 16 words held as 16 rows. Stage by stage, elements move within 4 x 4 blocks, then the blocks move.
[[gnu::always_inline]] inline void TransposeTile(__m512i (&row)[16]) {
  __m512i pair[16], quad[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pair[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    pair[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // quad[4 i + c]: column c of every 4 x 4 block of rows 4 i .. 4 i + 3
    quad[4 * i] = _mm512_unpacklo_epi64(pair[4 * i], pair[4 * i + 2]);
    quad[4 * i + 1] = _mm512_unpackhi_epi64(pair[4 * i], pair[4 * i + 2]);
    quad[4 * i + 2] = _mm512_unpacklo_epi64(pair[4 * i + 1], pair[4 * i + 3]);
    quad[4 * i + 3] = _mm512_unpackhi_epi64(pair[4 * i + 1], pair[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // transposes the 128-bit lanes of four of these columns
    const __m512i a = _mm512_shuffle_i32x4(quad[c], quad[4 + c], 0x44),
                  b = _mm512_shuffle_i32x4(quad[c], quad[4 + c], 0xee);
    const __m512i d = _mm512_shuffle_i32x4(quad[8 + c], quad[12 + c], 0x44),
                  e = _mm512_shuffle_i32x4(quad[8 + c], quad[12 + c], 0xee);
    row[c] = _mm512_shuffle_i32x4(a, d, 0x88);
    row[4 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
    row[8 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
    row[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
  }
}

// The first n lanes, of 16 or fewer.
[[gnu::always_inline]] inline __mmask16 Lanes(std::int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1);
}
#endif

// to[j * to_stride + i] = load(i, j) for i < rows, j < columns. load(i, j) is word j of row i; load.Row(i, j, lanes)
// are the 16 words from there, as far as they are in `lanes`, and load.Row(i, j) all of them, of a row before
// load.WholeRows(). Words [rows, padded) of the rows of `to` become zero; padded >= rows.
template <class Loader>
inline void Transpose(const Loader& load, std::int64_t rows, std::int64_t columns, Word* to, std::int64_t to_stride,
                      std::int64_t padded) {
#ifdef __AVX512F__
  const std::int64_t whole = rows < load.WholeRows() ? rows : load.WholeRows();
  for (std::int64_t j = 0; j < columns; j += 16) {
    const __mmask16 read = Lanes(columns - j);
    for (std::int64_t i = 0; i < padded; i += 16) {
      __m512i tile[16];
      if (i + 16 <= whole && j + 16 <= columns) {  // without a branch for every row
#pragma GCC unroll 16
        for (int r = 0; r < 16; ++r) tile[r] = load.Row(i + r, j);
        TransposeTile(tile);
#pragma GCC unroll 16
        for (int c = 0; c < 16; ++c) _mm512_storeu_si512(to + (j + c) * to_stride + i, tile[c]);
        continue;
      }
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) tile[r] = i + r < rows ? load.Row(i + r, j, read) : _mm512_setzero_si512();
      TransposeTile(tile);
      const __mmask16 write = Lanes(padded - i);
#pragma GCC unroll 16
      for (int c = 0; c < 16; ++c) {
        if (j + c < columns) _mm512_mask_storeu_epi32(to + (j + c) * to_stride + i, write, tile[c]);
      }
    }
  }
#else
  for (std::int64_t j = 0; j < columns; ++j, to += to_stride) {
    for (std::int64_t i = 0; i < padded; ++i) to[i] = i < rows ? load(i, j) : Word{0};
  }
#endif
}

// to[i * to_stride + j] = load(i, j) for i < rows, j < columns.
template <class Loader>
inline void CopyRows(const Loader& load, std::int64_t rows, std::int64_t columns, Word* to, std::int64_t to_stride) {
  for (std::int64_t i = 0; i < rows; ++i, to += to_stride) {
#ifdef __AVX512F__
    std::int64_t j = 0;
    for (; i < load.WholeRows() && j + 16 <= columns; j += 16) _mm512_storeu_si512(to + j, load.Row(i, j));
    for (; j < columns; j += 16) {
      const __mmask16 lanes = Lanes(columns - j);
      _mm512_mask_storeu_epi32(to + j, lanes, load.Row(i, j, lanes));
    }
#else
    for (std::int64_t j = 0; j < columns; ++j) to[j] = load(i, j);
#endif
  }
}

// Rows of words as they are.
struct WordRows {
  const Word* data;
  std::int64_t stride;
#ifdef __AVX512F__
  [[gnu::always_inline]] std::int64_t WholeRows() const { return std::numeric_limits<std::int64_t>::max(); }
  [[gnu::always_inline]] __m512i Row(std::int64_t i, std::int64_t j) const {
    return _mm512_loadu_si512(data + i * stride + j);
  }
  [[gnu::always_inline]] __m512i Row(std::int64_t i, std::int64_t j, __mmask16 lanes) const {
    return _mm512_maskz_loadu_epi32(lanes, data + i * stride + j);
  }
#else
  // Two elements of 16 bits need not begin where a word may.
  Word operator()(std::int64_t i, std::int64_t j) const {
    Word word;
    std::memcpy(&word, data + i * stride + j, sizeof word);
    return word;
  }
#endif
};

// Row i holds the pairs of rows 2 i (lower half) and 2 i + 1 of a matrix of 16-bit elements. A row beyond the last
// counts as zero.
struct PairedRows {
  const std::uint16_t* data;
  std::int64_t stride, rows;
#ifdef __AVX512F__
  [[gnu::always_inline]] std::int64_t WholeRows() const { return rows / 2; }
  [[gnu::always_inline]] __m512i Row(std::int64_t i, std::int64_t j) const {
    const std::uint16_t* low = data + 2 * i * stride + j;
    return Paired(_mm256_loadu_epi16(low), _mm256_loadu_epi16(low + stride));
  }
  [[gnu::always_inline]] __m512i Row(std::int64_t i, std::int64_t j, __mmask16 lanes) const {
    const std::uint16_t* low = data + 2 * i * stride + j;
    return Paired(_mm256_maskz_loadu_epi16(lanes, low),
                  2 * i + 1 < rows ? _mm256_maskz_loadu_epi16(lanes, low + stride) : __m256i{});
  }
  // Words of an even element (lower half) and an odd one each.
  [[gnu::always_inline]] static __m512i Paired(__m256i even, __m256i odd) {
    const __m512i place = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i order = _mm512_or_si512(place, _mm512_slli_epi32(_mm512_add_epi32(place, _mm512_set1_epi32(16)), 16));
    return _mm512_permutexvar_epi16(order, _mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1));
  }
#else
  Word operator()(std::int64_t i, std::int64_t j) const {
    const std::uint16_t* low = data + 2 * i * stride + j;
    return low[0] | (2 * i + 1 < rows ? Word{low[stride]} << 16 : Word{0});
  }
#endif
};

}  // namespace
}  // namespace swarr
