// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h). Vectors of
// AVX-512 with VBMI and VBMI2, which all processors with AMX have.
#include <immintrin.h>

#include <algorithm>

#include "tensor/kernels/panels.h"
#include "tensor/kernels/short_panels.h"

namespace swarr {
namespace {

constexpr std::int64_t kBlock = kSegment<BFloat16>;
static_assert(kBlock * kPanel == ShortBlock::kNumbers);
static_assert(kBlock * PanelView<BFloat16>::kShort * sizeof(BFloat16) == sizeof(ShortBlock));
constexpr int kNamed = 8, kSign = 8;  // scales that have a name, and the sign beside it

// The scale that name 0 has if it is not scale 0; name n > 0 has the scale Below(top) + n.
int Below(int top) { return top - (kNamed - 1); }

// The largest scale of a block, and 7 at least, so that Below(top) is a scale.
int TopOf(const BFloat16* block) {
  constexpr int kMagnitude = 0x7fff;
  int most = 0;
  for (int i = 0; i < ShortBlock::kNumbers; ++i) most = std::max(most, block[i].bits & kMagnitude);
  return std::max(most >> 8, kNamed - 1);
}

// Of 64 numbers, in the order of a ShortBlock.
struct Bytes {
  __m512i lower, upper;

  explicit Bytes(const BFloat16* from) {
    const __m512i a = _mm512_loadu_si512(from), b = _mm512_loadu_si512(from + 32);
    lower = Select(a, _mm512_slli_epi16(b, 8));
    upper = Select(_mm512_srli_epi16(b, 8), a);
  }

  // The lower bytes of words of x and the upper bytes of those of y.
  static __m512i Select(__m512i x, __m512i y) { return _mm512_ternarylogic_epi32(_mm512_set1_epi16(0xff), x, y, 0xca); }

  // Which of the 64 an upper byte is of.
  static int IndexOf(int upper_byte) { return upper_byte / 2 + (upper_byte % 2 == 0 ? 32 : 0); }
};

// Makes a block and its note. Name 0 is for the scale `lowest`.
class Shortener {
 public:
  Shortener(const BFloat16* from, int top, int lowest) : from_(from), top_(top), lowest_(lowest) {}

  // Whether the note has room for all numbers without a name.
  bool Write(ShortBlock& to, ShortNote& note) {
    std::fill_n(note.at, ShortNote::kOthers, ShortNote::kNone);
    note.top = static_cast<std::uint8_t>(top_ | (lowest_ == 0 ? ShortNote::kZeroHasName : 0));
    for (int i = 0; i < ShortBlock::kNumbers; i += 128) {
      const __m512i first = Write64(i, to, note), second = Write64(i + 64, to, note);
      _mm512_storeu_si512(to.upper + i / 2, _mm512_or_si512(first, _mm512_slli_epi16(second, 4)));
    }
    return others_ <= ShortNote::kOthers;
  }

 private:
  // Writes the lower bytes of the 64 numbers from `begin` on, and what their note needs. Returns signs and names.
  __m512i Write64(int begin, ShortBlock& to, ShortNote& note) {
    const auto all = [](int x) { return _mm512_set1_epi8(static_cast<char>(x)); };
    const Bytes bytes(from_ + begin);
    _mm512_storeu_si512(to.lower + begin, bytes.lower);
    const __m512i scales = _mm512_and_si512(bytes.upper, all(0x7f)), names = _mm512_subs_epu8(scales, all(Below(top_)));
    const __mmask64 name_0 = _mm512_testn_epi8_mask(names, names);
    NoteOthers(_mm512_mask_cmpneq_epi8_mask(name_0, scales, all(lowest_)), begin, note);
    return _mm512_or_si512(names, _mm512_and_si512(_mm512_srli_epi16(bytes.upper, 4), all(kSign)));
  }

  void NoteOthers(std::uint64_t upper_bytes, int begin, ShortNote& note) {
    for (; upper_bytes != 0; upper_bytes &= upper_bytes - 1) {
      const int other = others_++, at = begin + Bytes::IndexOf(__builtin_ctzll(upper_bytes));
      if (other >= ShortNote::kOthers) continue;
      note.at[other] = static_cast<std::uint16_t>(at);
      note.upper[other] = static_cast<std::uint8_t>(from_[at].bits >> 8);
    }
  }

  const BFloat16* from_;
  int top_, lowest_;
  int others_ = 0;
};

}  // namespace

bool ShortenPanel(Strided<BFloat16> b, std::int64_t depth, std::int64_t valid, BFloat16* to, ShortNote* notes) {
  alignas(64) BFloat16 block[ShortBlock::kNumbers];
  auto* blocks = reinterpret_cast<ShortBlock*>(to);
  for (std::int64_t k = 0; k < depth; k += kBlock, ++blocks, ++notes) {
    PackPanel(b.From(k, 0), std::min(kBlock, depth - k), valid, block);
    const int top = TopOf(block);
    const auto fits = [&](int lowest) { return Shortener(block, top, lowest).Write(*blocks, *notes); };
    if (!fits(Below(top)) && !fits(0)) return false;
  }
  return true;
}

void ExpandBlock(const BFloat16* from, const ShortNote& note, BFloat16* to) {
  const auto& block = *reinterpret_cast<const ShortBlock*>(from);
  const int top = note.top & ~ShortNote::kZeroHasName;
  const __m128i ascending = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -128, -127, -126, -125, -124, -123, -122, -121),
                scales = _mm_add_epi8(ascending, _mm_set1_epi8(static_cast<char>(Below(top)))),
                zeros = _mm_and_si128(ascending, _mm_set1_epi8(-128));
  constexpr __mmask16 kNameOfZero = 0x0101, kAll = 0xffff;  // g++ 12 warns of intrinsics without a mask
  constexpr __mmask64 kAllBytes = ~__mmask64{0};
  const __mmask16 zero = note.top & ShortNote::kZeroHasName ? kNameOfZero : __mmask16{0};
  // Four times the same, as a byte of an index counts by its lower 6 bits, of which 4 are a name and its sign.
  const __m512i upper_of = _mm512_maskz_broadcast_i32x4(kAll, _mm_mask_mov_epi8(scales, zero, zeros));
  const auto expand = [&](int begin, __m512i names) __attribute__((always_inline)) {
    const __m512i lower = _mm512_loadu_si512(block.lower + begin),
                  upper = _mm512_maskz_permutexvar_epi8(kAllBytes, names, upper_of);
    _mm512_store_si512(to + begin, Bytes::Select(lower, upper));
    _mm512_store_si512(to + begin + 32, _mm512_shldi_epi16(upper, lower, 8));
  };
#pragma GCC unroll 8
  for (int i = 0; i < ShortBlock::kNumbers; i += 128) {
    const __m512i names = _mm512_loadu_si512(block.upper + i / 2);
    expand(i, names);
    expand(i + 64, _mm512_srli_epi16(names, 4));
  }
  for (int i = 0; i < ShortNote::kOthers && note.at[i] != ShortNote::kNone; ++i) {
    const int lower = to[note.at[i]].bits & 0xff;
    to[note.at[i]].bits = static_cast<std::uint16_t>(note.upper[i] << 8 | lower);
  }
}

}  // namespace swarr
