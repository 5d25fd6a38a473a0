// SPDX-License-Identifier: Apache-2.0
// What tests of matrix products share: the three products of a linear layer, as functions of two operands.
#pragma once

#include "autograd/gradient_check.h"
#include "tensor/ops.h"
#include "tensors.h"

namespace swarr {

// The three products as functions of a[rows, depth] and b[depth, columns], each operand stored as its product wants it.
struct GemmProduct {
  const char* name;
  void (*run)(const Context&, const Tensor& c, const Tensor& a, const Tensor& b, bool accumulate);
  bool a_transposed, b_transposed;
};
inline void WithoutBias(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate) {
  LinearForward(ctx, y, x, w, {}, accumulate ? y : Tensor{});
}
inline const GemmProduct kProducts[] = {
    {"x w^T", WithoutBias, false, true}, {"dy w", MatMulNN, false, false}, {"dy^T x", MatMulTN, true, false}};
inline constexpr DType kGemmDTypes[] = {DType::kF32, DType::kF64, DType::kBF16};

struct GemmProblem {
  std::int64_t rows, columns, depth;
  Tensor a, b;  // as stored
};

inline GemmProblem MakeProblem(Arena& arena, const GemmProduct& p, DType dtype, std::int64_t rows, std::int64_t columns,
                               std::int64_t depth) {
  return {rows, columns, depth,
          p.a_transposed ? Random(arena, dtype, {depth, rows}, 1) : Random(arena, dtype, {rows, depth}, 1),
          p.b_transposed ? Random(arena, dtype, {columns, depth}, 2) : Random(arena, dtype, {depth, columns}, 2)};
}

// Two orders of one sum of `depth` terms differ by at most this: both round, once a term, by at most 2^-24 (2^-53) of a
// partial sum. Tensor cores, which take bf16, cut off instead.
inline double OrderBound(DType dtype, std::int64_t depth) {
  const double rounding = dtype == DType::kF64 ? 0x1p-53 : dtype == DType::kF32 ? 0x1p-24 : 0x1p-23;
  return 2 * static_cast<double>(depth) * rounding;
}

// Rows [begin, end) of the left operand, as stored.
inline Tensor RowsOfA(Arena& arena, const GemmProduct& p, const GemmProblem& q, std::int64_t begin, std::int64_t end) {
  if (!p.a_transposed) return q.a.Rows(begin, end);
  const Tensor a = arena.New(q.a.dtype(), {q.depth, end - begin});
  for (std::int64_t k = 0; k < q.depth; ++k) {
    const Tensor row = q.a.Rows(k, k + 1).Reshape({q.rows}).Rows(begin, end);
    Copy(a.Rows(k, k + 1).Reshape({end - begin}), row);
  }
  return a;
}

}  // namespace swarr
