// SPDX-License-Identifier: Apache-2.0
// Products of linear layers that have one input: they share an operand or a result, and a CUDA device multiplies them
// in one launch.
#pragma once

#include <initializer_list>

#include "tensor/ops.h"

namespace swarr {

struct InputGradientTerm {
  Tensor dy, w;  // [M, N], [N, K]
};
constexpr std::size_t kMostTerms = 3;

// dx[M, K] = the sum of the terms' dy w, which are added in this order. In f64 and f32 each element is one accumulator
// through all terms. In bf16 a CUDA device goes through them in one too, and rounds once; the processor rounds after
// each term.
void AddedMatMulNN(const Context& ctx, const Tensor& dx, std::initializer_list<InputGradientTerm> terms);

// The same in bf16 on a CUDA device (cuda/gemm.cu), where our own products are asked for; whether it was done.
bool FusedMatMulNN(const Context& ctx, const Tensor& dx, std::initializer_list<InputGradientTerm> terms);

}  // namespace swarr
