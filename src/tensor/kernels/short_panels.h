// SPDX-License-Identifier: Apache-2.0
// Short panels: weights in bf16 that take 12 of their 16 bits, and lose nothing. A single row of a product uses a
// weight once, and waits for it: on a Xeon with AMX a core brings 25 GB/s from its third-level cache (docs/log.md), and
// expands more than that.
//
// The upper byte of a number is its sign and its *scale*, the upper 7 of 8 bits of its exponent. Scale s > 0 has the
// magnitudes from 2^(2s - 127) to below 2^(2s - 125); scale 0 has zero and what is less than 2^-125. A panel's rows
// stand in blocks of 32, and in a block nearly all numbers have few scales. So 3 bits name one: 7 is the block's
// largest, its *top*, 6 the one below, and so on; 0 is top - 7 or, where that does not do, scale 0. The few numbers
// whose scale has no name stand in the block's note: of normally distributed weights one in seven to twenty blocks. A
// panel fits if its notes have room for them.
#pragma once

#include <cstdint>

#include "tensor/bf16.h"

namespace swarr {

template <class T>
struct Strided;  // tile_kernel.h

// 1,024 numbers that follow one another in a panel. Of each 64 of them let a be the first 32 and b the others.
struct ShortBlock {
  static constexpr int kNumbers = 1024;
  std::uint8_t lower[kNumbers];  // a[0], b[0], a[1], b[1], ...
  // Sign (8) and name (0 to 7) of b[0], a[0], b[1], a[1], ...; in the lower half of 64 bytes those of 64 numbers, in
  // the upper half those of the next 64.
  std::uint8_t upper[kNumbers / 2];
};

// What has to be known beside a block to read it.
struct ShortNote {
  static constexpr int kOthers = 5;
  static constexpr std::uint16_t kNone = ShortBlock::kNumbers;
  static constexpr std::uint8_t kZeroHasName = 0x80;
  std::uint16_t at[kOthers];    // where numbers are whose scale has no name; kNone behind the last
  std::uint8_t upper[kOthers];  // their upper bytes
  std::uint8_t top;             // and whether name 0 is scale 0
};

// TileKernel::shorten.
bool ShortenPanel(Strided<BFloat16> b, std::int64_t depth, std::int64_t valid, BFloat16* to, ShortNote* notes);

// The 1,024 numbers of the block at `from`, which has this note. `to` begins at a cache line.
void ExpandBlock(const BFloat16* from, const ShortNote& note, BFloat16* to);

}  // namespace swarr
