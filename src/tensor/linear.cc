// SPDX-License-Identifier: Apache-2.0
#include "tensor/gemm.h"
#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {

void LinearForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b) {
  MatMulNT(ctx, y, x, w);
  if (b.empty()) return;
  const std::int64_t N = y.dim(0), O = y.dim(1);
  CheckShape(b, y.dtype(), {O}, "the bias of a linear layer");
  Dispatch(y.dtype(), [&]<class T>() {
    ForRows(ctx, N, O, [&](std::int64_t n) {
      T* row = y.data<T>() + n * O;
      for (std::int64_t o = 0; o < O; ++o) row[o] += b.data<T>()[o];
    });
  });
}

// dx = dy w, dw = dy^T x, db = sum over rows of dy.
void LinearBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& db, const Tensor& dy,
                    const Tensor& x, const Tensor& w) {
  if (!dx.empty()) MatMulNN(ctx, dx, dy, w, /*accumulate=*/true);
  if (!dw.empty()) MatMulTN(ctx, dw, dy, x, /*accumulate=*/true);
  if (db.empty()) return;
  const std::int64_t N = dy.dim(0), O = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    ForColumnBlocks(ctx, O, N, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = 0; n < N; ++n) {
        for (std::int64_t o = begin; o < end; ++o) db.data<T>()[o] += dy.data<T>()[n * O + o];
      }
    });
  });
}

}  // namespace swarr
