// SPDX-License-Identifier: Apache-2.0
// Matrix products in one fixed order.
//
// Every output element is one accumulator that adds its products in ascending k, one fused multiply-add each (where the
// processor has one), whatever the number of rows, columns and threads. So a row of a product has the same bits alone
// and in any batch: half of what makes rollouts exactly on-policy (docs/architecture.md, P8). Threads split rows and
// columns, never k.
#pragma once

#include "tensor/context.h"

namespace swarr {

// The three products of a linear layer y = x w^T. With accumulate, the result is added to what the output holds.
// All tensors are of one floating dtype; shapes are checked.

// y[M, N] (+)= x[M, K] w[N, K]^T
void MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate = false);
// dx[M, K] (+)= dy[M, N] w[N, K]
void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate = false);
// dw[N, K] (+)= dy[M, N]^T x[M, K]
void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate = false);

}  // namespace swarr
