// SPDX-License-Identifier: Apache-2.0
// Short panels: weights in bf16 that take 13 of their 16 bits, and lose nothing. A single row of a product uses a
// weight once, and waits for it: on a Xeon with AMX a core brings 25 GB/s from its third-level cache (docs/log.md), and
// expands more than that.
//
// The upper byte of a number is its sign and its *scale*, the upper 7 of 8 bits of its exponent. Scale s > 0 has the
// magnitudes from 2^(2s - 127) to below 2^(2s - 125); scale 0 has zero and what is less than 2^-125. Weights of a panel
// have few scales. So 4 bits name one: 15 is the panel's largest, its *top*, 14 the one below, and so on; 0 is scale 0.
// A panel fits if each number's scale is 0 or one of the 15 up to the top.
//
// A panel's rows stand in blocks of 32, each 1,024 numbers in the panel's order: first all lower bytes, then the scales
// of two numbers in a byte, then all signs.
#pragma once

#include "tensor/kernels/tile_kernel.h"

namespace swarr {

struct ShortBlock {
  static constexpr int kNumbers = 1024, kGroup = 128;  // a group is two vectors of bytes
  std::uint8_t lower[kNumbers];
  std::uint8_t
      scales[kNumbers / 2];  // byte i of a group's 64: of its numbers i and 64 + i, in the lower and upper half
  std::uint64_t signs[kNumbers / 64];
};
static_assert(kSegment<BFloat16> * kPanel == ShortBlock::kNumbers);
static_assert(kSegment<BFloat16> * PanelView<BFloat16>::kShort * sizeof(BFloat16) == sizeof(ShortBlock));

// TileKernel::shorten.
std::uint8_t ShortenPanel(Strided<BFloat16> b, std::int64_t depth, std::int64_t valid, BFloat16* to);

// The 1,024 numbers of the block at `from`, of a panel with this top. `to` begins at a cache line.
void ExpandBlock(const BFloat16* from, std::uint8_t top, BFloat16* to);

}  // namespace swarr
