// SPDX-License-Identifier: Apache-2.0
// The plain definitions (plain/ops.h, plain/attention.h) as recorded ops of f64 on the host, with the arguments of
// autograd/ops.h. `stored` is done to what the op stores as bf16 on its way from inputs to results; how far a rounding
// there moves the results is what bf16 costs whoever computes them.
#pragma once

#include <array>

#include "autograd/ops.h"
#include "plain/ops.h"

namespace swarr {

double RoundToBF16(double x);
void RoundToBF16(const Tensor& t);  // f64

namespace plain {

Var Embedding(Context& ctx, const Var& w, const Tensor& ids);
Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b);
Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps);
Var Rope(Context& ctx, const Var& x, const Tensor& positions, double theta);
Var SwiGlu(Context& ctx, const Var& gate, const Var& up);
Var Add(Context& ctx, const Var& a, const Var& b);
// The output, which the backward reads, is stored, as are the weights relative to the largest, and their gradients.
Var Attention(Context& ctx, const std::array<Var, 3>& qkv, const Tensor& q_pos, const Tensor& documents,
              AttentionSpec spec, const Var& sink_logits, Rounding stored);
// The gradient of the logits is stored.
LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets, Rounding stored);
// x [N, C] stored, as is its gradient.
Var Stored(Context& ctx, const Var& x, Rounding stored);

}  // namespace plain
}  // namespace swarr
