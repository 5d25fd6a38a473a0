// SPDX-License-Identifier: Apache-2.0
// The plain product by short_product.h, with bias and addend; called by gemm.cu.
#include "cuda/pack.h"
#include "cuda/short_product.h"

namespace swarr {
namespace {

struct LinearLayer {
  Product<float, float> p;
  bool aligned;  // lines of the weights begin at multiples of 16 bytes

  __device__ std::int64_t Column(int tile, int lane) const { return std::int64_t{tile} * kShortColumns + lane; }
  __device__ void CopyWeights(const ShortDepth& k, float* lines, int tile) const {
    CopyShortOperand<kShortColumns>(lines, k, aligned, p.b, Column(tile, 0), p.columns);
  }
  __device__ float Begin(std::int64_t row, int tile, int lane) const {
    const std::int64_t column = Column(tile, lane);
    return p.addend && column < p.columns ? p.addend[row * p.columns + column] : 0.0f;
  }
  __device__ void Store(std::int64_t row, bool there, int tile, int lane, float sum) const {
    const std::int64_t column = Column(tile, lane);
    if (!there || column >= p.columns) return;
    p.c[(blockIdx.z * p.rows + row) * p.columns + column] = p.bias ? sum + p.bias[column] : sum;
  }
};

bool LinesAligned(const Operand<float>& x, std::int64_t part_depth) {
  return RowsAligned<4>(x.stride, x.data) && part_depth % 4 == 0;
}

}  // namespace

// Where there are tiles of 64 x 64 enough for four on each multiprocessor, gemm.cu's larger tiles read less.
bool ShortProductTakes(const Context& ctx, const Product<float, float>& p) {
  constexpr std::int64_t kTile = 64, kTiles = 4;
  const std::int64_t tiles = Blocks(p.rows, kTile) * Blocks(p.columns, kTile) * p.parts();
  return tiles < kTiles * ctx.stream->multiprocessors && ShortFits(ctx, std::min(p.depth, p.part_depth));
}

void MultiplyShort(const Context& ctx, const Product<float, float>& p) {
  const std::int64_t part_depth = std::min(p.depth, p.part_depth);
  const bool one_part = part_depth == p.depth;
  const ShortInput in{.x = p.a,
                      .rows = p.rows,
                      .depth = p.depth,
                      .part_depth = part_depth,
                      .aligned = LinesAligned(p.a, one_part ? 4 : part_depth),
                      .steady = ctx.steady_weights};
  LaunchShort(ctx, LinearLayer{p, LinesAligned(p.b, one_part ? 4 : part_depth)}, in, Blocks(p.columns, kShortColumns));
}

}  // namespace swarr
