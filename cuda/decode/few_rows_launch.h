// SPDX-License-Identifier: Apache-2.0
// Which shape of tile a product of few rows has, and its launch (few_rows.h). The shape changes no bits.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "cuda/decode/few_rows.h"

namespace swarr {

constexpr std::int64_t kMostFewRows = 256;

template <class S>
bool FewRowsFit(const Context& ctx, std::int64_t depth) {
  return S::SharedBytes(depth) <= static_cast<std::size_t>(ctx.stream->shared_memory);
}
// Whether any shape fits.
inline bool FewRowsFit(const Context& ctx, std::int64_t depth) {
  return depth > 0 && FewRowsFit<FewShape<16, 32, 16, 16, 24>>(ctx, depth);
}

// The cost of a shape: what the busiest multiprocessor reads.
template <class S>
std::int64_t FewRowsCost(const Context& ctx, const FewRows& in, std::int64_t columns) {
  if (!FewRowsFit<S>(ctx, in.depth)) return std::numeric_limits<std::int64_t>::max();
  const std::int64_t blocks = Blocks(in.rows, S::kRows) * Blocks(columns, S::kColumns);
  return Blocks(blocks, std::max(1, ctx.stream->multiprocessors)) * (S::kRows + S::kColumns);
}

template <class S, class Layer>
void LaunchFewRowsAs(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  const dim3 grid(static_cast<unsigned>(Blocks(columns, S::kColumns)),
                  static_cast<unsigned>(Blocks(in.rows, S::kRows)));
  Launch(ctx, {grid, S::kThreads, S::SharedBytes(in.depth), /*early=*/ctx.steady_weights}, FewRowsKernel<S, Layer>,
         layer, in);
}

// `columns`: of all outputs.
template <class... Shapes, class Layer>
void LaunchCheapestFewRows(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  const std::array costs{FewRowsCost<Shapes>(ctx, in, columns)...};
  const auto cheapest = std::min_element(costs.begin(), costs.end()) - costs.begin();
  std::int64_t i = 0;
  ((i++ == cheapest ? LaunchFewRowsAs<Shapes>(ctx, layer, in, columns) : void()), ...);
}

template <class Layer>
void LaunchFewRows(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  LaunchCheapestFewRows<FewShape<16, 32, 16, 16, 24>, FewShape<16, 64, 16, 16, 12>, FewShape<32, 32, 16, 16, 24>,
                        FewShape<32, 64, 16, 16, 12>, FewShape<64, 64, 32, 16, 12>>(ctx, layer, in, columns);
}

// The same with tiles of whole heads, of D columns.
constexpr bool HeadsFit(std::int64_t D) { return 64 % D == 0 || D == 128; }
template <class Layer>
void LaunchFewRowsOfHeads(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns,
                          std::int64_t D) {
  if (64 % D == 0) {
    return LaunchCheapestFewRows<FewShape<16, 64, 16, 16, 12>, FewShape<32, 64, 16, 16, 12>,
                                 FewShape<64, 64, 32, 16, 12>>(ctx, layer, in, columns);
  }
  LaunchCheapestFewRows<FewShape<16, 128, 16, 16, 6>, FewShape<32, 128, 32, 16, 6>, FewShape<64, 128, 32, 32, 6>>(
      ctx, layer, in, columns);
}

}  // namespace swarr
