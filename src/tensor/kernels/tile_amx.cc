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

constexpr std::int64_t kPanelStride = 4 * kPanel;  // bytes between pairs of rows of a panel

// 32 rows times a panel. Tile registers 0 to 3 hold the sums of 2 x 2 tiles, 4 and 5 rows of a, 6 and 7 columns of b.
void MultiplyHigh(std::int64_t depth, const TileRows& rows, const BFloat16* b, bool accumulate, float* c,
                  std::int64_t c_stride) {
  const std::int64_t row_stride = 2 * rows.row, stride = 4 * c_stride;  // bytes between rows of a and c
  const auto* a = reinterpret_cast<const BFloat16*>(rows.data);
  float* low = c + kTileRows * c_stride;
  if (accumulate) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    _tile_loadd(2, low, stride);
    _tile_loadd(3, low + 16, stride);
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
    _tile_loadd(5, a + kTileRows * rows.row, row_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + 16, stride);
  _tile_stored(2, low, stride);
  _tile_stored(3, low + 16, stride);
}

// Fetches a block of b, 2 KiB. With few rows weights pass through the caches once, and the processor's own fetching
// ends with each page of 4 KiB: 46 GB/s without this, 51 with it.
constexpr std::int64_t kAhead = 2 * kBlock * kPanel;
[[gnu::always_inline]] inline void Prefetch(const BFloat16* b) {
#pragma GCC unroll 32
  for (std::int64_t line = 0; line < kBlock; ++line) _mm_prefetch(b + line * kPanel, _MM_HINT_T0);
}

// 16 rows times one panel or two. A product waits some 50 cycles for its own sums and takes 16: with the four sums of
// two panels there is work meanwhile. Register 4 holds rows of a, 5 to 7 columns of b.
template <int kPanels>
void MultiplyLow(std::int64_t depth, const TileRows& rows, const BFloat16* b, std::int64_t b_stride, bool accumulate,
                 float* c, std::int64_t c_stride) {
  const std::int64_t row_stride = 2 * rows.row, stride = 4 * c_stride;
  const auto* a = reinterpret_cast<const BFloat16*>(rows.data);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (accumulate) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    if constexpr (kPanels == 2) {
      _tile_loadd(2, c + kPanel, stride);
      _tile_loadd(3, c + kPanel + 16, stride);
    }
  }
  for (std::int64_t k = 0; k < depth; k += kBlock, a += rows.segment, b += kBlock * kPanel) {
    Prefetch(b + kAhead);
    if constexpr (kPanels == 2) Prefetch(b + b_stride + kAhead);
    _tile_loadd(4, a, row_stride);
    _tile_loadd(6, b, kPanelStride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kPanel, kPanelStride);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kPanels == 2) {
      _tile_loadd(5, b + b_stride, kPanelStride);
      _tile_dpbf16ps(2, 4, 5);
      _tile_loadd(6, b + b_stride + kPanel, kPanelStride);
      _tile_dpbf16ps(3, 4, 6);
    }
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + 16, stride);
  if constexpr (kPanels == 2) {
    _tile_stored(2, c + kPanel, stride);
    _tile_stored(3, c + kPanel + 16, stride);
  }
}

// Tiles of up to 32 rows. If there are fewer rows, whole tiles are computed and the last rows dropped.
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const BFloat16* b,
                  std::int64_t b_stride, bool accumulate, float* c, std::int64_t c_stride) {
  // A thread keeps the configuration until it exits.
  thread_local const bool configured = (_tile_loadconfig(&kTileConfig), true);
  static_cast<void>(configured);
  const bool whole = rows == kRows || rows == kTileRows;
  while (panels > 0) {
    const std::int64_t count = rows <= kTileRows && panels > 1 ? 2 : 1, width = count * kPanel;
    alignas(64) float sums[kRows * kPanel];  // or half the rows of two panels
    float* to = whole ? c : sums;
    const std::int64_t stride = whole ? c_stride : width;
    const auto row_bytes = static_cast<std::size_t>(4 * width);
    for (int i = 0; !whole && accumulate && i < rows; ++i) std::memcpy(sums + i * width, c + i * c_stride, row_bytes);
    if (rows > kTileRows) {
      MultiplyHigh(depth, a, b, accumulate, to, stride);
    } else if (count == 2) {
      MultiplyLow<2>(depth, a, b, b_stride, accumulate, to, stride);
    } else {
      MultiplyLow<1>(depth, a, b, b_stride, accumulate, to, stride);
    }
    for (int i = 0; !whole && i < rows; ++i) std::memcpy(c + i * c_stride, sums + i * width, row_bytes);
    panels -= count, b += count * b_stride, c += width;
  }
}

// Each segment of a packed tile has 16 or 32 rows, tile after tile.
constexpr TileKernel<BFloat16> kKernel = {
    kRows, kTileRows, 1, sizeof(BFloat16), PackTile<BFloat16, BFloat16, kTileRows>, MultiplyRows};

}  // namespace

const TileKernel<BFloat16>& AmxTileKernel() { return kKernel; }

}  // namespace swarr
