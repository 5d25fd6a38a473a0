// SPDX-License-Identifier: Apache-2.0
// Linear layers of one input x[M, K]: their products share an operand or the result, so a CUDA device multiplies them
// in one launch in bf16. Weights are [N, K], each with an N of its own. There are at most three.
#pragma once

#include <array>
#include <span>

#include "tensor/ops.h"

namespace swarr {

inline constexpr std::size_t kMostLinears = 3;

// A list of at most three, which needs no memory of its own.
template <class T>
class Few {
 public:
  void Add(const T& x) {
    SWARR_CHECK(size_ < at_.size(), "more than ", at_.size(), " linear layers of one input");
    at_[size_++] = x;
  }
  std::span<const T> view() const { return {at_.data(), size_}; }

 private:
  std::array<T, kMostLinears> at_ = {};
  std::size_t size_ = 0;
};

// Where rows stand: positions [M], and the table of rope_table.h for heads of D numbers.
struct RowPositions {
  Tensor positions, table;
};

// y = x w^T + b for each; b is optional (empty). `turned`: y are heads of D numbers, which rotary embedding turns. The
// bits of LinearForward and RopeForward.
struct LinearResult {
  Tensor y, w, b = {};  // y[M, N]
  bool turned = false;
};
void LinearsForward(const Context& ctx, const Tensor& x, std::span<const LinearResult> results,
                    const RowPositions& rows = {});
// Turns the heads y[M, N] in place.
void TurnHeads(const Context& ctx, const Tensor& y, const RowPositions& rows);

// dx = the sum of the terms' dy w, in this order. In f64 and f32 an element is one accumulator through all terms. In
// bf16 a CUDA device goes through them in one too and rounds once; the processor rounds after each term.
struct InputGradientTerm {
  Tensor dy, w;  // dy[M, N]
};
void LinearsInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms);

// dw += dy^T x for each, or dw = dy^T x where it is fresh; in the dtype of sums. A long sum is cut into parts by the
// shapes of all.
struct WeightGradient {
  Tensor dw, dy;
};
void LinearsWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients);

// The same on a CUDA device (cuda/gemm.cu). They return false where they have done nothing.
bool FusedLinears(const Context& ctx, const Tensor& x, std::span<const LinearResult> results, const RowPositions& rows);
bool FusedInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms);
bool FusedWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients);

}  // namespace swarr
