// SPDX-License-Identifier: Apache-2.0
#include "tensor/linears.h"

namespace swarr {

void LinearsForward(const Context& ctx, const Tensor& x, std::span<const LinearResult> results) {
  for (const auto& [y, w, b] : results) {
    CheckShape(w, x.dtype(), {-1, x.dim(1)}, "the weight of a product x w^T");
    CheckShape(y, x.dtype(), {x.dim(0), w.dim(0)}, "the result of a product x w^T");
    if (!b.empty()) CheckShape(b, x.dtype(), {w.dim(0)}, "the bias of a linear layer");
  }
  if (FusedLinears(ctx, x, results)) return;
  for (const auto& [y, w, b] : results) LinearForward(ctx, y, x, w, b);
}

void LinearsInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms) {
  for (const auto& [dy, w] : terms) {
    CheckShape(w, dx.dtype(), {-1, dx.dim(1)}, "the weight of a product dy w");
    CheckShape(dy, dx.dtype(), {dx.dim(0), w.dim(0)}, "the gradient of a product dy w");
  }
  if (FusedInputGradient(ctx, dx, terms)) return;
  for (const InputGradientTerm& term : terms) MatMulNN(ctx, dx, term.dy, term.w, /*accumulate=*/&term != &terms[0]);
}

void LinearsWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients) {
  for (const auto& [dw, dy] : gradients) {
    CheckShape(dy, x.dtype(), {x.dim(0), -1}, "the gradient of a product dy^T x");
    CheckShape(dw, AccumulatorOf(x.dtype()), {dy.dim(1), x.dim(1)}, "the result of a product dy^T x");
  }
  if (FusedWeightGradients(ctx, x, gradients)) return;
  for (const auto& [dw, dy] : gradients) MatMulTN(ctx, dw, dy, x, /*accumulate=*/!dw.fresh());
}

}  // namespace swarr
