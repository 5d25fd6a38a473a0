// SPDX-License-Identifier: Apache-2.0
// Which shape of tile a product of few rows has, and its launch (few_rows.h). The shape changes no bits.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "cuda/decode/few_rows.h"

namespace swarr {

constexpr std::int64_t kMostFewRows = 256;

// Whether the smallest shape fits, with whatever a layer wants aside.
inline bool FewRowsFit(const Context& ctx, std::int64_t depth) {
  constexpr std::size_t kMostAside = 16 * 1024;
  return depth > 0 && FewShape<16, 64, 16, 16, 12>::SharedBytes(depth) + kMostAside <=
                          static_cast<std::size_t>(ctx.stream->shared_memory);
}

template <class S, class Layer>
std::size_t FewRowsBytes(const Layer& layer, const FewRows& in) {
  return S::SharedBytes(in.depth) + layer.template AsideBytes<S>();
}

// The cost of a shape: what the busiest multiprocessor reads.
template <class S, class Layer>
std::int64_t FewRowsCost(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  if (FewRowsBytes<S>(layer, in) > static_cast<std::size_t>(ctx.stream->shared_memory))
    return std::numeric_limits<std::int64_t>::max();
  const std::int64_t blocks = Blocks(in.rows, S::kRows) * Blocks(columns, S::kColumns);
  return Blocks(blocks, std::max(1, ctx.stream->multiprocessors)) * (S::kRows + S::kColumns);
}

template <class S, class Layer>
void LaunchFewRowsAs(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  const dim3 grid(static_cast<unsigned>(Blocks(columns, S::kColumns)),
                  static_cast<unsigned>(Blocks(in.rows, S::kRows)));
  Launch(ctx, {grid, S::kThreads, FewRowsBytes<S>(layer, in), /*early=*/ctx.steady_weights}, FewRowsKernel<S, Layer>,
         layer, in);
}

// `columns`: of all outputs.
template <class... Shapes, class Layer>
void LaunchCheapestFewRows(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  const std::array costs{FewRowsCost<Shapes>(ctx, layer, in, columns)...};
  const auto cheapest = std::min_element(costs.begin(), costs.end()) - costs.begin();
  std::int64_t i = 0;
  ((i++ == cheapest ? LaunchFewRowsAs<Shapes>(ctx, layer, in, columns) : void()), ...);
}

template <class Layer>
void LaunchFewRows(const Context& ctx, const Layer& layer, const FewRows& in, std::int64_t columns) {
  LaunchCheapestFewRows<FewShape<16, 32, 16, 16, 24>, FewShape<16, 64, 16, 16, 12>, FewShape<32, 32, 16, 16, 24>,
                        FewShape<32, 64, 16, 16, 12>, FewShape<64, 64, 32, 16, 12>, FewShape<64, 96, 32, 16, 9>>(
      ctx, layer, in, columns);
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
