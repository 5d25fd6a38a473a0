// SPDX-License-Identifier: Apache-2.0
// Which shape of tile a product of few rows has, and its launch (few_rows.h). The shape changes no bits.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "cuda/decode/few_rows.h"
#include "model/fused.h"

namespace swarr {

constexpr std::int64_t kMostFewRows = 512;

struct FewRowsOfX {
  const BFloat16* x;
  int rows, depth;
  const BFloat16* norm = nullptr;
  float eps = 0;
};

template <class S, class Layer>
std::size_t FewRowsBytes(const Layer& layer, int depth, int stages) {
  const int steps = static_cast<int>(Blocks(depth, kStep));
  return static_cast<std::size_t>(FewPlaces::Of<S>(steps, stages, Layer::kNormed).aside) +
         layer.template AsideBytes<S>();
}

// As many stages as k has steps, or as fit. What has no stage is fetched only when the launch before is done.
template <class S, class Layer>
int StagesOf(const Context& ctx, const Layer& layer, int depth) {
  const auto most = static_cast<std::size_t>(ctx.stream->shared_memory);
  int stages = static_cast<int>(std::min<std::int64_t>(Blocks(depth, kStep), kMostStages));
  while (stages > 0 && FewRowsBytes<S>(layer, depth, stages) > most) --stages;
  return stages;
}

// Whether rows of this length can be normed: the smallest shape fits, with whatever a layer wants aside.
inline bool NormedRowsFit(const Context& ctx, std::int64_t depth) {
  using Smallest = FewShape<2, 8>;
  constexpr int kMostAside = 16 * 1024;
  return depth > 0 &&
         FewPlaces::Of<Smallest>(static_cast<int>(Blocks(depth, kStep)), kLeastStages, true).aside + kMostAside <=
             ctx.stream->shared_memory;
}

inline FewRowsOfX RowsOf(const NormedRows& in) {
  return {.x = in.x.data<BFloat16>(),
          .rows = static_cast<int>(in.x.dim(0)),
          .depth = static_cast<int>(in.x.dim(1)),
          .norm = in.weight.data<BFloat16>(),
          .eps = static_cast<float>(in.eps)};
}
// Whether fused launches take these rows.
inline bool NormedRowsTake(const Context& ctx, const NormedRows& in) {
  const std::int64_t N = in.x.dim(0);
  return ctx.stream && ctx.stream->has_warpgroups && ctx.gemm == GemmKind::kOwn && !ctx.trace_non_finite &&
         in.x.dtype() == DType::kBF16 && N > 0 && N <= kMostFewRows && NormedRowsFit(ctx, in.x.dim(1)) &&
         RowsAligned<kChunk>(in.x.dim(1), in.x.data<BFloat16>(), in.weight.data<BFloat16>());
}

// A matrix that is read in boxes of so many rows.
inline CUtensorMap MatrixOf(const Tensor& t, int lines) {
  return DescribeMatrix(t.data<BFloat16>(), t.dim(0), t.dim(1), t.dim(1), lines);
}

template <class S, class Layer>
bool FewRowsFit(const Context& ctx, const Layer& layer, std::int64_t depth) {
  return StagesOf<S>(ctx, layer, static_cast<int>(depth)) >= std::min<std::int64_t>(kLeastStages, Blocks(depth, kStep));
}

// Whether a block has room for all of its weights, so that they are there before rows are.
template <class S, class Layer>
bool FewRowsHoldWeights(const Context& ctx, const Layer& layer, std::int64_t depth) {
  return depth > 0 && StagesOf<S>(ctx, layer, static_cast<int>(depth)) == Blocks(depth, kStep);
}

// Blocks of rows, of which clusters are whole.
template <class S>
std::int64_t RowBlocks(std::int64_t rows) {
  return Blocks(rows, S::kRows * S::kShare) * S::kShare;
}

// The cost of a shape: what the busiest multiprocessor reads, and, at a third, its share of what all read.
template <class S, class Layer>
std::int64_t FewRowsCost(const Context& ctx, const Layer& layer, const FewRowsOfX& in, std::int64_t columns) {
  if (!FewRowsFit<S>(ctx, layer, in.depth)) return std::numeric_limits<std::int64_t>::max();
  const std::int64_t blocks = Blocks(in.rows, S::kRows) * Blocks(columns, S::kColumns), block = S::kRows + S::kColumns,
                     multiprocessors = std::max(1, ctx.stream->multiprocessors);
  return 3 * Blocks(blocks, multiprocessors) * block + blocks * block / multiprocessors;
}

template <class S, class Layer>
void LaunchFewRowsAs(const Context& ctx, const Layer& layer, const FewRowsOfX& in, std::int64_t columns) {
  const auto across = static_cast<unsigned>(Blocks(columns, S::kColumns)),
             down = static_cast<unsigned>(RowBlocks<S>(in.rows));
  const int stages = StagesOf<S>(ctx, layer, in.depth), panels = in.depth % kPanel == 0 ? in.depth / kPanel : 1;
  Launch(ctx,
         {.blocks = S::kShare > 1 ? dim3(down, across) : dim3(across, down),
          .threads = S::kThreads,
          .shared_bytes = FewRowsBytes<S>(layer, in.depth, stages),
          .early = ctx.steady_weights,
          .cluster = S::kShare > 1 ? S::kShare : 0},
         FewRowsKernel<S, Layer>,
         Layer::kNormed ? DescribePanels(in.x, in.rows, in.depth, S::kRows, panels)
                        : DescribeMatrix(in.x, in.rows, in.depth, in.depth, S::kRows),
         layer, FewRows{in.rows, in.depth, panels, in.norm, in.eps}, stages);
}

// Whether tiles can have whole heads of D columns.
constexpr bool HeadsFit(std::int64_t D) { return kPanel % D == 0 || D == 2 * kPanel; }

// `columns`: of all outputs.
template <class... Shapes, class Layer>
void LaunchCheapestFewRows(const Context& ctx, const Layer& layer, const FewRowsOfX& in, std::int64_t columns) {
  const std::array costs{FewRowsCost<Shapes>(ctx, layer, in, columns)...};
  const auto cheapest = std::min_element(costs.begin(), costs.end()) - costs.begin();
  std::int64_t i = 0;
  ((i++ == cheapest ? LaunchFewRowsAs<Shapes>(ctx, layer, in, columns) : void()), ...);
}

}  // namespace swarr
