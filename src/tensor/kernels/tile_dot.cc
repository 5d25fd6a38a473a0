// SPDX-License-Identifier: Apache-2.0
// Compiled for one instruction set: no inline function with external linkage may be left behind (kernels.h).
// Products of bf16 by VDPBF16PS (AVX512_BF16): a lane adds two products, of rows k and k + 1, to its sum.
#include <immintrin.h>

#include <cstring>

#include "tensor/kernels/panels.h"

namespace swarr {
namespace {

constexpr int kRows = 8;
constexpr std::int64_t kBlock = kSegment<BFloat16>;

// Numbers k and k + 1 of a row, for all lanes.
[[gnu::always_inline]] inline __m512bh Pair(const BFloat16* a) {
  int both;
  std::memcpy(&both, a, sizeof both);
  return (__m512bh)_mm512_set1_epi32(both);
}

// A tile of rows times `kPanels` panels.
template <int kCount, int kPanels>
void Multiply(std::int64_t depth, const TileRows& rows, const BFloat16* b, std::int64_t b_stride, bool accumulate,
              float* c, std::int64_t c_stride) {
  const auto* a = reinterpret_cast<const BFloat16*>(rows.data);
  __m512 sum[kCount][2 * kPanels];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < 2 * kPanels; ++v) {
      sum[i][v] = accumulate ? _mm512_loadu_ps(c + i * c_stride + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t k0 = 0; k0 < depth; k0 += kBlock, a += rows.segment) {
    for (std::int64_t k = 0; k < kBlock; k += 2) {
      const BFloat16* pair = b + (k0 + k) * kPanel;
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p, pair += b_stride) {
        const auto b0 = (__m512bh)_mm512_loadu_si512(pair), b1 = (__m512bh)_mm512_loadu_si512(pair + kPanel);
#pragma GCC unroll 8
        for (int i = 0; i < kCount; ++i) {
          const auto x = Pair(a + i * rows.row + k);
          sum[i][2 * p] = _mm512_dpbf16_ps(sum[i][2 * p], x, b0);
          sum[i][2 * p + 1] = _mm512_dpbf16_ps(sum[i][2 * p + 1], x, b1);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < 2 * kPanels; ++v) _mm512_storeu_ps(c + i * c_stride + 16 * v, sum[i][v]);
  }
}

void MultiplyRows(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const PanelView<BFloat16>& b,
                  bool accumulate, float* c, std::int64_t c_stride) {
  ForPanels<kRows>(rows, panels, b, c, [&]<int kCount, int kPanels>(const BFloat16* from, float* to) {
    Multiply<kCount, kPanels>(depth, a, from, b.stride, accumulate, to, c_stride);
  });
}

// Each of kCount rows times a panel of its own.
template <int kCount>
void MultiplyEach(std::int64_t depth, const TileRows* rows, const BFloat16* const* b, bool accumulate, float* c,
                  std::int64_t c_stride) {
  __m512 sum[kCount][2];
  const BFloat16* a[kCount];
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
    a[i] = reinterpret_cast<const BFloat16*>(rows[i].data);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      sum[i][v] = accumulate ? _mm512_loadu_ps(c + i * c_stride + 16 * v) : _mm512_setzero_ps();
    }
  }
  for (std::int64_t k0 = 0; k0 < depth; k0 += kBlock) {
    for (std::int64_t k = 0; k < kBlock; k += 2) {
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) {
        const BFloat16* pair = b[i] + (k0 + k) * kPanel;
        const auto x = Pair(a[i] + k);
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, (__m512bh)_mm512_loadu_si512(pair));
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, (__m512bh)_mm512_loadu_si512(pair + kPanel));
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) a[i] += rows[i].segment;
  }
#pragma GCC unroll 4
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) _mm512_storeu_ps(c + i * c_stride + 16 * v, sum[i][v]);
  }
}

void MultiplyEachRow(int rows, std::int64_t depth, const TileRows* a, const BFloat16* const* b, bool accumulate,
                     float* c, std::int64_t c_stride) {
  static_assert(TileKernel<BFloat16>::kEach == 4);
  const auto multiply = rows == 4   ? MultiplyEach<4>
                        : rows == 3 ? MultiplyEach<3>
                        : rows == 2 ? MultiplyEach<2>
                                    : MultiplyEach<1>;
  multiply(depth, a, b, accumulate, c, c_stride);
}

constexpr TileKernel<BFloat16> kKernel = {
    kRows, 1, sizeof(BFloat16), PackTile<BFloat16, BFloat16>, MultiplyRows, MultiplyEachRow};

}  // namespace

const TileKernel<BFloat16>& DotTileKernel() { return kKernel; }

}  // namespace swarr
