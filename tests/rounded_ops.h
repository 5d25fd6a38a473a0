// SPDX-License-Identifier: Apache-2.0
// The ops that store bf16 on the way from their inputs to their results, written plainly: in f64, rounded to bf16
// exactly where the kernels round. How far such an evaluation is from the exact one is what bf16 costs whoever computes
// it.
#pragma once

#include "autograd/ops.h"

namespace swarr {

double RoundToBF16(double x);
void RoundToBF16(const Tensor& t);  // f64

// x rounded, as is its gradient: an activation that is stored as bf16.
Var Rounded(Context& ctx, const Var& x);

// The output, which the backward reads, is stored as bf16, as are the weights relative to the largest, and their
// gradients.
Var RoundedAttention(Context& ctx, const Var& q, const Var& k, const Var& v, const Tensor& q_pos,
                     const Tensor& documents, AttentionSpec spec);

// The gradient of the logits is stored as bf16.
LogprobResult RoundedTokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets);

}  // namespace swarr
