// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h).
// Products of bf16 by AMX. TDPBF16PS multiplies a tile of up to 16 rows by 32 of k with a tile of 32 of k by 16
// columns, and adds to as many rows of 16 sums (Intel ISE reference, chapter 3). Rows do not mix. Denormals count as
// zero, on the way in and out.
#include <immintrin.h>

#include <array>
#include <utility>

#include "tensor/kernels/panels.h"

namespace swarr {
namespace {

constexpr int kTileRows = 16, kRows = 2 * kTileRows;
constexpr std::int64_t kBlock = kSegment<BFloat16>;

// The eight tile registers for a product of so many rows, each row 64 bytes: 0 to 3 hold the sums of 2 x 2 tiles, 4 and
// 5 rows of a, 6 and 7 columns of b. Up to 16 rows take 0, 1, 4, 6 and 7.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {};

  constexpr explicit TileConfig(int n) {
    const auto upper = static_cast<std::uint8_t>(n < kTileRows ? n : kTileRows),
               lower = static_cast<std::uint8_t>(n > kTileRows ? n - kTileRows : kTileRows);
    rows[0] = rows[1] = rows[4] = upper;
    rows[2] = rows[3] = rows[5] = lower;
    rows[6] = rows[7] = kTileRows;
  }
};

// Row by row of a table, because g++ 12 believes that the intrinsic reads only 8 bytes of its argument, and could leave
// the others of a local variable unwritten.
template <int... kN>
constexpr std::array<TileConfig, kRows> ConfigsOf(std::integer_sequence<int, kN...>) {
  return {TileConfig(kN + 1)...};
}
constexpr std::array kConfigs = ConfigsOf(std::make_integer_sequence<int, kRows>());

// A thread keeps its configuration until it multiplies another number of rows.
void Configure(int rows) {
  thread_local int configured = 0;
  if (configured == rows) return;
  _tile_loadconfig(&kConfigs[static_cast<std::size_t>(rows - 1)]);
  configured = rows;
}

template <int kTiles>
void Multiply(std::int64_t depth, const TileRows& rows, const BFloat16* b, bool accumulate, float* c,
              std::int64_t c_stride) {
  constexpr std::int64_t kPanelStride = 4 * kPanel;                     // bytes between pairs of rows of a panel
  const std::int64_t row_stride = 2 * rows.row, stride = 4 * c_stride;  // and between rows of a and c
  const auto* a = reinterpret_cast<const BFloat16*>(rows.data);
  if (accumulate) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    if constexpr (kTiles == 2) {
      _tile_loadd(2, c + kTileRows * c_stride, stride);
      _tile_loadd(3, c + kTileRows * c_stride + 16, stride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (std::int64_t k = 0; k < depth; k += kBlock, a += rows.segment, b += kBlock * kPanel) {
    _tile_loadd(6, b, kPanelStride);
    _tile_loadd(7, b + kPanel, kPanelStride);
    _tile_loadd(4, a, row_stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 2) {
      _tile_loadd(5, a + kTileRows * rows.row, row_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + 16, stride);
  if constexpr (kTiles == 2) {
    _tile_stored(2, c + kTileRows * c_stride, stride);
    _tile_stored(3, c + kTileRows * c_stride + 16, stride);
  }
}

// Tiles of up to 32 rows.
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const BFloat16* b,
                  std::int64_t b_stride, bool accumulate, float* c, std::int64_t c_stride) {
  Configure(rows);
  const auto multiply = rows > kTileRows ? Multiply<2> : Multiply<1>;
  for (; panels > 0; --panels, b += b_stride, c += kPanel) multiply(depth, a, b, accumulate, c, c_stride);
}

constexpr TileKernel<BFloat16> kKernel = {kRows, 1, sizeof(BFloat16), PackTile<BFloat16, BFloat16>, MultiplyRows};

}  // namespace

const TileKernel<BFloat16>& AmxTileKernel() { return kKernel; }

}  // namespace swarr
