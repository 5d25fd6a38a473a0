// SPDX-License-Identifier: Apache-2.0
#include "tensor/linears.h"

#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

void CheckCount(std::size_t layers) {
  SWARR_CHECK(layers <= kMostLinears, layers, " linear layers of one input, more than ", kMostLinears);
}

}  // namespace

void TurnHeads(const Context& ctx, const Tensor& y, const RowPositions& rows) {
  const std::int64_t D = rows.table.dim(1);
  const Tensor heads = y.Reshape({y.dim(0), y.dim(1) / D, D});
  RopeForward(ctx, heads, heads, rows.positions, rows.table);
}

void LinearsForward(const Context& ctx, const Tensor& x, std::span<const LinearResult> results,
                    const RowPositions& rows) {
  CheckCount(results.size());
  for (const auto& [y, w, b, turned] : results) {
    CheckShape(w, x.dtype(), {-1, x.dim(1)}, "the weight of a product x w^T");
    CheckShape(y, x.dtype(), {x.dim(0), w.dim(0)}, "the result of a product x w^T");
    if (!b.empty()) CheckShape(b, x.dtype(), {w.dim(0)}, "the bias of a linear layer");
    if (!turned) continue;
    CheckShape(rows.positions, DType::kI32, {x.dim(0)}, "rope positions");
    CheckShape(rows.table, AccumulatorOf(x.dtype()), {-1, -1}, "rope table");
    SWARR_CHECK(w.dim(0) % rows.table.dim(1) == 0, "rope of heads of ", rows.table.dim(1), " in a result of ", w.dim(0),
                " columns");
  }
  if (FusedLinears(ctx, x, results, rows)) return;
  if (ctx.device() == Device::kCpu) {
    OnCpu(ctx.cpu, [&]<class Set>() { Kernels<Set>::Linears(ctx, x, results); });
  } else {
    for (const auto& [y, w, b, turned] : results) LinearForward(ctx, y, x, w, b);
  }
  for (const LinearResult& result : results) {
    if (result.turned) TurnHeads(ctx, result.y, rows);
  }
}

void LinearsInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms) {
  CheckCount(terms.size());
  for (const auto& [dy, w] : terms) {
    CheckShape(w, dx.dtype(), {-1, dx.dim(1)}, "the weight of a product dy w");
    CheckShape(dy, dx.dtype(), {dx.dim(0), w.dim(0)}, "the gradient of a product dy w");
  }
  if (FusedInputGradient(ctx, dx, terms)) return;
  if (ctx.device() == Device::kCpu) {
    return OnCpu(ctx.cpu, [&]<class Set>() { Kernels<Set>::LinearsInputGradient(ctx, dx, terms); });
  }
  for (const InputGradientTerm& term : terms) MatMulNN(ctx, dx, term.dy, term.w, /*accumulate=*/&term != &terms[0]);
}

void LinearsWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients) {
  CheckCount(gradients.size());
  for (const auto& [dw, dy] : gradients) {
    CheckShape(dy, x.dtype(), {x.dim(0), -1}, "the gradient of a product dy^T x");
    CheckShape(dw, AccumulatorOf(x.dtype()), {dy.dim(1), x.dim(1)}, "the result of a product dy^T x");
  }
  if (FusedWeightGradients(ctx, x, gradients)) return;
  if (ctx.device() == Device::kCpu) {
    return OnCpu(ctx.cpu, [&]<class Set>() { Kernels<Set>::LinearsWeightGradients(ctx, x, gradients); });
  }
  for (const auto& [dw, dy] : gradients) MatMulTN(ctx, dw, dy, x, /*accumulate=*/!dw.fresh());
}

}  // namespace swarr
