// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h). Vectors of
// AVX-512, which all processors with AMX have.
#include <immintrin.h>

#include <algorithm>

#include "tensor/kernels/panels.h"
#include "tensor/kernels/short_panels.h"

namespace swarr {
namespace {

constexpr std::int64_t kBlock = kSegment<BFloat16>;
constexpr int kScales = 16;  // that a panel has names for

// The scale that name 1 would have less one: name n > 0 is scale Below(top) + n.
int Below(int top) { return top - (kScales - 1); }

// A panel's largest scale, and kScales - 1 at least, so that no name but 0 is scale 0.
int TopOf(Strided<BFloat16> b, std::int64_t depth, std::int64_t valid) {
  constexpr int kMagnitude = 0x7fff;
  int most = 0;
  for (std::int64_t j = 0; j < valid; ++j) {
    const auto* column = reinterpret_cast<const std::uint16_t*>(b.data + j * b.column_stride);
    for (std::int64_t k = 0; k < depth; ++k) most = std::max(most, column[k] & kMagnitude);
  }
  return std::max(most >> 8, kScales - 1);
}

// Of 64 numbers, in the order that ExpandBlock interleaves: in each quarter of the vectors, 8 of the first and 8 of the
// second.
struct Bytes {
  __m512i lower, upper;

  explicit Bytes(const BFloat16* from) {
    const __m512i first = _mm512_loadu_si512(from), second = _mm512_loadu_si512(from + 32),
                  low = _mm512_set1_epi16(0xff);
    lower = _mm512_packus_epi16(_mm512_and_si512(first, low), _mm512_and_si512(second, low));
    upper = _mm512_packus_epi16(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
  }
};

// The names of 64 scales; `fits` becomes false if one has none.
__m512i NamesOf(__m512i scales, int top, bool& fits) {
  const __m512i names = _mm512_subs_epu8(scales, _mm512_set1_epi8(static_cast<char>(Below(top))));
  if (_mm512_mask_test_epi8_mask(_mm512_testn_epi8_mask(names, names), scales, scales) != 0) fits = false;
  return names;
}

bool ShortenBlock(const BFloat16* from, int top, ShortBlock& to) {
  const __m512i scale = _mm512_set1_epi8(0x7f);
  bool fits = true;
  for (int group = 0; group < ShortBlock::kNumbers / ShortBlock::kGroup; ++group, from += ShortBlock::kGroup) {
    const Bytes halves[] = {Bytes(from), Bytes(from + 64)};
    for (int i = 0; i < 2; ++i) {
      _mm512_storeu_si512(to.lower + (2 * group + i) * 64, halves[i].lower);
      to.signs[2 * group + i] = _mm512_movepi8_mask(halves[i].upper);
    }
    const __m512i first = NamesOf(_mm512_and_si512(halves[0].upper, scale), top, fits),
                  second = NamesOf(_mm512_and_si512(halves[1].upper, scale), top, fits);
    _mm512_storeu_si512(to.scales + group * 64, _mm512_or_si512(first, _mm512_slli_epi16(second, 4)));
  }
  return fits;
}

}  // namespace

std::uint8_t ShortenPanel(Strided<BFloat16> b, std::int64_t depth, std::int64_t valid, BFloat16* to) {
  alignas(64) BFloat16 block[ShortBlock::kNumbers];
  auto* blocks = reinterpret_cast<ShortBlock*>(to);
  const int top = TopOf(b, depth, valid);
  for (std::int64_t k = 0; k < depth; k += kBlock, ++blocks) {
    PackPanel(b.From(k, 0), std::min(kBlock, depth - k), valid, block);
    if (!ShortenBlock(block, top, *blocks)) return 0;
  }
  return static_cast<std::uint8_t>(top);
}

void ExpandBlock(const BFloat16* from, std::uint8_t top, BFloat16* to) {
  const auto& block = *reinterpret_cast<const ShortBlock*>(from);
  const __m128i ascending = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                scales = _mm_add_epi8(ascending, _mm_set1_epi8(static_cast<char>(Below(top))));
  constexpr __mmask16 kAllButScale0 = 0xfffe, kAll = 0xffff;  // g++ 12 warns of the broadcast without a mask
  const __m512i scale_of = _mm512_maskz_broadcast_i32x4(kAll, _mm_maskz_mov_epi8(kAllButScale0, scales)),
                sign = _mm512_set1_epi8(-128), name = _mm512_set1_epi8(kScales - 1);
  const auto expand = [&](int half, __m512i names) __attribute__((always_inline)) {
    const __m512i lower = _mm512_loadu_si512(block.lower + 64 * half), scale = _mm512_shuffle_epi8(scale_of, names),
                  upper = _mm512_mask_add_epi8(scale, block.signs[half], scale, sign);
    _mm512_store_si512(to + 64 * half, _mm512_unpacklo_epi8(lower, upper));
    _mm512_store_si512(to + 64 * half + 32, _mm512_unpackhi_epi8(lower, upper));
  };
#pragma GCC unroll 8
  for (int group = 0; group < ShortBlock::kNumbers / ShortBlock::kGroup; ++group) {
    const __m512i names = _mm512_loadu_si512(block.scales + 64 * group);
    expand(2 * group, _mm512_and_si512(names, name));
    expand(2 * group + 1, _mm512_and_si512(_mm512_srli_epi16(names, 4), name));
  }
}

}  // namespace swarr
