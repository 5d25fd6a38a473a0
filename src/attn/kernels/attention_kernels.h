// SPDX-License-Identifier: Apache-2.0
// The kernels of attention, in sets like those of tensor/kernels/kernels.h, whose rule holds in this folder too. Their
// contracts stand in attention.h, and attention.cc has checked the arguments.
#pragma once

#include "attn/attention.h"
#include "tensor/cpu.h"
#include "tensor/device.h"

namespace swarr {

template <class Set>
struct AttentionKernels {
  static void Forward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& inputs);
  static void Backward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& out,
                       const Tensor& lse, const AttentionInputs& inputs);
  static void StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v,
                        const Tensor& positions, const Tensor& slots, const Tensor& lengths);
  static void CachedForward(const Context& ctx, const Tensor& out, const Tensor& lse,
                            const CachedAttentionInputs& inputs);
};

// Whether Backward on a CUDA device turns the gradients of queries and keys back itself, if there is a rope table.
bool AttentionTurnsBack(const Context& ctx, const Tensor& q);

}  // namespace swarr
