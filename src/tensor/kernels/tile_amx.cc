// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h).
// Products of bf16 by AMX. TDPBF16PS multiplies a tile of up to 16 rows by 32 of k with a tile of 32 of k by 16
// columns, and adds to as many rows of 16 sums (Intel ISE reference, chapter 3). Rows do not mix. Denormals count as
// zero, on the way in and out.
#include <immintrin.h>

#include <array>
#include <utility>

#include "tensor/kernels/panels.h"
#include "tensor/kernels/short_panels.h"

namespace swarr {
namespace {

constexpr int kTileRows = 16, kRows = 2 * kTileRows;
constexpr std::int64_t kBlock = kSegment<BFloat16>;

// The eight tile registers for a product of so many rows, each row 64 bytes: 0 to 3 hold the sums of 2 x 2 tiles, 4 and
// 5 rows of a, 6 and 7 columns of b. Up to 16 rows take 0, 1, 4, 6 and 7; 2, 3 and 5 are then for as many others.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {};

  constexpr explicit TileConfig(int n) {
    const auto upper = static_cast<std::uint8_t>(n < kTileRows ? n : kTileRows),
               lower = static_cast<std::uint8_t>(n > kTileRows ? n - kTileRows : n);
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

// The sums of one tile of rows, or two, that a product goes on from; and where they go. `stride` is in bytes.
template <int kTiles>
[[gnu::always_inline]] inline void BeginSums(bool accumulate, const float* upper, const float* lower,
                                             std::int64_t stride) {
  if (accumulate) {
    _tile_loadd(0, upper, stride);
    _tile_loadd(1, upper + 16, stride);
    if constexpr (kTiles == 2) {
      _tile_loadd(2, lower, stride);
      _tile_loadd(3, lower + 16, stride);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
}
template <int kTiles>
[[gnu::always_inline]] inline void StoreTiles(float* upper, float* lower, std::int64_t stride) {
  _tile_stored(0, upper, stride);
  _tile_stored(1, upper + 16, stride);
  if constexpr (kTiles == 2) {
    _tile_stored(2, lower, stride);
    _tile_stored(3, lower + 16, stride);
  }
}

// g++ does not know that a tile is loaded from memory, and could move stores that it sees, or leave them out.
[[gnu::always_inline]] inline void Expand(const BFloat16* from, const ShortNote& note, BFloat16* to) {
  asm volatile("" : : : "memory");
  ExpandBlock(from, note, to);
  asm volatile("" : : "r"(to) : "memory");
}

constexpr std::int64_t kPanelStride = 4 * kPanel;  // bytes between pairs of rows of a panel

template <int kTiles>
void Multiply(std::int64_t depth, const TileRows& rows, const PanelView<BFloat16>& b, bool accumulate, float* c,
              std::int64_t c_stride) {
  const std::int64_t row_stride = 2 * rows.row, stride = 4 * c_stride;  // bytes between rows of a and c
  const auto* a = reinterpret_cast<const BFloat16*>(rows.data);
  float* lower = c + kTileRows * c_stride;
  alignas(64) std::uint16_t storage[kBlock * kPanel];  // a BFloat16 would begin as zero
  auto* expanded = reinterpret_cast<BFloat16*>(storage);
  BeginSums<kTiles>(accumulate, c, lower, stride);
  for (std::int64_t k = 0; k < depth; k += kBlock, a += rows.segment) {
    const PanelView<BFloat16> rest = b.From(0, k);
    const BFloat16* block = rest.data;
    if (rest.notes) {
      Expand(block, *rest.notes, expanded);
      block = expanded;
    }
    _tile_loadd(4, a, row_stride);
    if constexpr (kTiles == 2) _tile_loadd(5, a + kTileRows * rows.row, row_stride);
    _tile_loadd(6, block, kPanelStride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTiles == 2) _tile_dpbf16ps(2, 5, 6);
    _tile_loadd(7, block + kPanel, kPanelStride);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }
  StoreTiles<kTiles>(c, lower, stride);
}

// One row, or two whose sums do not wait for one another, each times a panel of its own.
template <int kCount>
void MultiplyOwn(std::int64_t depth, const TileRows* rows, const BFloat16* const* panels, bool accumulate, float* c,
                 std::int64_t c_stride) {
  constexpr std::int64_t kRow = 64;  // bytes; a tile of one row has no other
  constexpr int kLast = kCount - 1;
  const auto *a0 = reinterpret_cast<const BFloat16*>(rows[0].data),
             *a1 = reinterpret_cast<const BFloat16*>(rows[kLast].data);
  const BFloat16 *b0 = panels[0], *b1 = panels[kLast];
  BeginSums<kCount>(accumulate, c, c + c_stride, kRow);
  for (std::int64_t k = 0; k < depth; k += kBlock, b0 += kBlock * kPanel) {
    _tile_loadd(4, a0, kRow);
    _tile_loadd(6, b0, kPanelStride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b0 + kPanel, kPanelStride);
    _tile_dpbf16ps(1, 4, 7);
    a0 += rows[0].segment;
    if constexpr (kCount == 2) {
      _tile_loadd(5, a1, kRow);
      _tile_loadd(6, b1, kPanelStride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_loadd(7, b1 + kPanel, kPanelStride);
      _tile_dpbf16ps(3, 5, 7);
      a1 += rows[1].segment, b1 += kBlock * kPanel;
    }
  }
  StoreTiles<kCount>(c, c + c_stride, kRow);
}

// Tiles of up to 32 rows.
void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const PanelView<BFloat16>& b,
                  bool accumulate, float* c, std::int64_t c_stride) {
  Configure(rows);
  const auto multiply = rows > kTileRows ? Multiply<2> : Multiply<1>;
  for (std::int64_t p = 0; p < panels; ++p, c += kPanel) multiply(depth, a, b.From(p, 0), accumulate, c, c_stride);
}

void MultiplyEach(int rows, std::int64_t depth, const TileRows* a, const BFloat16* const* b, bool accumulate, float* c,
                  std::int64_t c_stride) {
  Configure(1);
  for (; rows > 0; rows -= 2, a += 2, b += 2, c += 2 * c_stride) {
    const auto multiply = rows > 1 ? MultiplyOwn<2> : MultiplyOwn<1>;
    multiply(depth, a, b, accumulate, c, c_stride);
  }
}

constexpr TileKernel<BFloat16> kKernel = {kRows,        1, sizeof(BFloat16), PackTile<BFloat16, BFloat16>, MultiplyRows,
                                          MultiplyEach, 2, ShortenPanel,     /*fetches_ahead=*/false};

}  // namespace

const TileKernel<BFloat16>& AmxTileKernel() { return kKernel; }

}  // namespace swarr
