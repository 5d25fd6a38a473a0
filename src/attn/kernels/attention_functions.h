// SPDX-License-Identifier: Apache-2.0
// The attention kernels of one set, as members of AttentionKernels<Set>: attention.h, arguments already checked. No
// include guard: it is included once for each set.

static void Forward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& inputs);
static void Backward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& out,
                     const Tensor& lse, const AttentionInputs& inputs);
static void StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v,
                      const Tensor& positions, const Tensor& slots);
static void CachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const Tensor& q,
                          const KeyCache& cache, const Tensor& q_pos, const Tensor& slots, AttentionSpec spec);
