// SPDX-License-Identifier: Apache-2.0
// Several ops of a block in one launch, for the few rows of a step of decoding, where a CUDA device has a kernel for
// that: there a launch takes longer than what it computes. The results have the bits of the ops one after another
// (cuda_fused_test.cc), so the processor needs no twin. A function that returns an empty tensor has done nothing: then
// the caller runs the ops.
//
// Defined in cuda/decode/few_rows_fused.cu and few_rows_cluster.cu or, in a build without CUDA, in cuda/stub.cc. Shapes
// are those of the ops.
#pragma once

#include "attn/attention.h"

namespace swarr {

// RmsNorm(x) of x[N, C], which the products then multiply.
struct NormedRows {
  Tensor x, weight;
  double eps;
};

// Returns y = SwiGlu(m gate^T, m up^T), m = RmsNorm(x), in the arena.   y[N, F]  gate, up [F, C]
Tensor FusedGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up);

// What follows attention in a block. Returns y + down(SwiGlu(m gate^T, m up^T)) in the arena, with y = x + attended
// output^T and m = RmsNorm(y); x is in.x.   attended [N, A]  output [C, A]  gate, up [F, C]  down [C, F]
struct RestWeights {
  Tensor output, gate, up, down;
};
Tensor FusedRest(const Context& ctx, const NormedRows& in, const Tensor& attended, const RestWeights& weights);

// Weights of the heads [heads * D, C]; biases [heads * D] and norms [D] are optional (empty).
struct QkvWeights {
  Tensor q, k, v;
  Tensor q_bias, k_bias, v_bias;
  Tensor q_norm, k_norm;
};
// Where rows stand: positions[N], slots[N], and the table of rope_table.h.
struct QkvRows {
  Tensor positions, slots, table;
};
// Returns q = Rope(RmsNorm(m q^T + q_bias)) with m = RmsNorm(x), in the arena; k likewise and v = m v^T + v_bias are
// put into the cache as by StoreKeys.   q[N, H, D] for heads of D numbers
Tensor FusedQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in,
                const QkvWeights& weights, const QkvRows& rows);

}  // namespace swarr
