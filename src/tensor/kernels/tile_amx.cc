// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h).
// Products of bf16 by AMX. TDPBF16PS multiplies a tile of 16 rows by 32 of k with a tile of 32 of k by 16 columns, and
// adds to 16 x 16 sums (Intel ISE reference, chapter 3). A packed tile of a is 16 or 32 rows high; rows beyond the last
// are zero, and rows do not mix. Denormals count as zero, on the way in and out.
#include <immintrin.h>

#include <cstring>

#include "tensor/kernels/panels.h"

namespace swarr {
namespace {

constexpr int kTileRows = 16, kRows = 2 * kTileRows;
constexpr std::int64_t kBlock = kSegment<BFloat16>;

// All eight tile registers hold 16 rows of 64 bytes. The table is constant, because g++ 12 believes that the intrinsic
// reads only 8 bytes of it, and could leave the others of a local variable unwritten.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows, kTileRows};
};
constexpr TileConfig kTileConfig;

// Tile registers 0 to 3 hold the sums of 2 x 2 tiles, 4 and 5 rows of a, 6 and 7 columns of b.
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
    _tile_zero(2);
    _tile_zero(3);
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

// Tiles of up to 32 rows. If there are fewer rows, whole tiles are computed and the last rows dropped.
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const BFloat16* b,
                  std::int64_t b_stride, bool accumulate, float* c, std::int64_t c_stride) {
  // A thread keeps the configuration until it exits.
  thread_local const bool configured = (_tile_loadconfig(&kTileConfig), true);
  static_cast<void>(configured);
  const auto multiply = rows > kTileRows ? Multiply<2> : Multiply<1>;
  const bool whole = rows == kRows || rows == kTileRows;
  alignas(64) float sums[kRows * kPanel];
  for (; panels > 0; --panels, b += b_stride, c += kPanel) {
    if (whole) {
      multiply(depth, a, b, accumulate, c, c_stride);
      continue;
    }
    for (int i = 0; accumulate && i < rows; ++i) std::memcpy(sums + i * kPanel, c + i * c_stride, 4 * kPanel);
    multiply(depth, a, b, accumulate, sums, kPanel);
    for (int i = 0; i < rows; ++i) std::memcpy(c + i * c_stride, sums + i * kPanel, 4 * kPanel);
  }
}

// Each segment of a packed tile has 16 or 32 rows, tile after tile.
constexpr TileKernel<BFloat16> kKernel = {
    kRows, kTileRows, 1, sizeof(BFloat16), PackTile<BFloat16, BFloat16, kTileRows>, MultiplyRows};

}  // namespace

const TileKernel<BFloat16>& AmxTileKernel() { return kKernel; }

}  // namespace swarr
