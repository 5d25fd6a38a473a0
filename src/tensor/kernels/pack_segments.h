// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h).
// Packing of rows of bf16 as they are, for the kernels that multiply bf16 itself (tile_dot.cc, tile_amx.cc).
#pragma once

#include <cstring>

#include "tensor/kernels/tile_kernel.h"
#include "tensor/kernels/transpose.h"

namespace swarr {
namespace {

// Each segment of k gets `stride` rows: the first `rows` are filled, the others zero. Zeros follow beyond depth.
inline void PackSegments(Strided<BFloat16> a, int rows, int stride, std::int64_t depth, BFloat16* to) {
  constexpr std::int64_t kBlock = kSegment<BFloat16>;
  for (std::int64_t k0 = 0; k0 < depth; k0 += kBlock, to += stride * kBlock) {
    const std::int64_t block = depth - k0 < kBlock ? depth - k0 : kBlock;
    if (rows < stride) {
      std::memset(static_cast<void*>(to + rows * kBlock), 0, static_cast<std::size_t>((stride - rows) * kBlock * 2));
    }
    const BFloat16* from = a.data + k0 * a.column_stride;
    if (a.row_stride == 1) {  // a transposed: pairs of its rows k, turned
      const PairedRows pairs{reinterpret_cast<const std::uint16_t*>(from), a.column_stride, block};
      Transpose(pairs, (block + 1) / 2, rows, reinterpret_cast<Word*>(to), kBlock / 2, kBlock / 2);
      continue;
    }
    for (int i = 0; i < rows; ++i, from += a.row_stride) {
      BFloat16* out = to + i * kBlock;
      if (a.column_stride == 1 && block == kBlock) {
        std::memcpy(static_cast<void*>(out), from, 2 * kBlock);
      } else {
        for (std::int64_t k = 0; k < kBlock; ++k) {
          out[k].bits = k < block ? from[k * a.column_stride].bits : std::uint16_t{0};
        }
      }
    }
  }
}

}  // namespace
}  // namespace swarr
