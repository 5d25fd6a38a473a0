// SPDX-License-Identifier: Apache-2.0
// The two halves of a transformer's block, each one recorded op with its norm and its residual. They have the bits of
// the ops of ops.h one after another (tests/blocks_test.cc), but for gradients in bf16 on a CUDA device, which are
// rounded less often (tensor/linears.h). They need less memory:
//  - What lies within has a gradient only while the backward runs.
//  - What a backward makes again on its way is not kept: normed rows and the result of SwiGLU. Queries and keys are
//    turned in place.
//  - The result x + f(x) continues the gradient of x: both have one memory. The backward of f adds to what has come to
//    the result, and that is the gradient of x. So x may not be used again after the op; a backward that finds it used
//    throws.
#pragma once

#include "autograd/ops.h"
#include "tensor/linears.h"

namespace swarr {

// Biases [heads * D], norms [D] and learned sinks [H] are optional (empty).
struct AttentionWeights {
  Var norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, sinks, o;
};
// Queries, keys and values of x: with m = RmsNorm(x), q = Rope(RmsNorm(m q^T + q_bias)), k likewise, v = m v^T +
// v_bias.
struct QkvHeads {
  Tensor q, k, v;  // [N, H, D], [N, G, D] and [N, G, D]
};
// They, and what their backward reads beside x.
struct Projected {
  QkvHeads heads;
  Tensor rstd;
  Tensor plain_q = {}, q_rstd = {}, plain_k = {}, k_rstd = {};  // before their norms; empty without such norms
};
Projected Project(Context& ctx, const Tensor& x, const AttentionWeights& w, const RowPositions& rows, double eps);

// x + o(attention(Project(x))), over whole documents. `documents` and `prompts` are as in attn/attention.h.
struct AttentionDocuments {
  Tensor documents, prompts;
  AttentionSpec spec;
};
Var SelfAttention(Context& ctx, const Var& x, const AttentionWeights& w, const RowPositions& rows,
                  const AttentionDocuments& documents, double eps);

// A gated feed-forward network: x + SwiGlu(m gate^T, m up^T) down^T with m = RmsNorm(x).
struct FeedForwardWeights {
  Var norm, gate, up, down;
};
Var FeedForward(Context& ctx, const Var& x, const FeedForwardWeights& w, double eps);

}  // namespace swarr
