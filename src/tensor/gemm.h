// SPDX-License-Identifier: Apache-2.0
// Matrix products in one fixed order.
//
// Every output element is one accumulator that adds its products in ascending k, whatever the number of rows, columns
// and threads (tile_kernel.h). So a row of a product has the same bits alone and in any batch, which is half of what
// makes rollouts exactly on-policy (docs/exactness.md). Threads split rows and columns, never k. A CUDA device cuts a
// long sum of MatMulTN into parts, by its length alone (cuda/gemm.cu). f64 and f32 fuse each product with its sum where
// the processor can. bf16 is multiplied exactly or by the processor's own instructions, summed in f32, and rounded
// once, when it is stored.
#pragma once

#include <string>

#include "tensor/context.h"

namespace swarr {

// The three products of a linear layer y = x w^T. With `accumulate`, the result is added to what the output holds. An
// addend has the output's shape and dtype, and may be the output. The operands are of one floating dtype; the output
// has the same, or the one that it is summed in. Shapes are checked.

// y[M, N] = x[M, K] w[N, K]^T + bias[N] + addend[M, N], the last two optional (empty)
void MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias = {},
              const Tensor& addend = {});
// dx[M, K] (+)= dy[M, N] w[N, K]
void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate = false);
// dw[N, K] (+)= dy[M, N]^T x[M, K]
void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate = false);

// Throws UsageError for an unknown name, and for the library of another device.
GemmKind ParseGemm(const std::string& name, Device device);

}  // namespace swarr
