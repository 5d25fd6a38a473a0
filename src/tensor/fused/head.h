// SPDX-License-Identifier: Apache-2.0
// The LM head with log-softmax in one kernel each, forward and backward, on CUDA devices whose warpgroups multiply
// (cuda/head_wgmma.cu): logits stay in the registers of their product. The results have the bits of the product
// followed by Kernels<Cuda>::LogSoftmaxRows and LogSoftmaxRowsBackward.
#pragma once

#include "tensor/ops.h"

namespace swarr {

// Whether the context's device and the shapes allow it.
bool FusedHeadTakes(const Context& ctx, const LogprobInputs& inputs);

// What TokenLogprobForward computes.
void FusedTokenLogprob(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                       const LogprobInputs& inputs);
// dlogits[N, V], in bf16, from the arguments of TokenLogprobBackward.
void FusedLogitGradients(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp, const Tensor& dentropy,
                         const Tensor& lse, const Tensor& entropy, const LogprobInputs& inputs);

}  // namespace swarr
