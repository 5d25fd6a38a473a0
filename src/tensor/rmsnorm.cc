// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tensor/math.h"
#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {

void RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                    double eps) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  SWARR_CHECK(y.SameShape(x) && x.dim(x.rank() - 1) == C, "rmsnorm of ", x.ShapeString(), " with weight ",
              w.ShapeString(), " into ", y.ShapeString());
  CheckShape(w, x.dtype(), {C}, "rmsnorm weight");
  CheckShape(rstd, x.dtype(), {rows}, "rmsnorm rstd");
  Dispatch(x.dtype(), [&]<class T>() {
    ForRows(ctx, rows, C, [&](std::int64_t n) {
      const T* in = x.data<T>() + n * C;
      T* out = y.data<T>() + n * C;
      const T r = T(1) / std::sqrt(Dot(in, in, C) / static_cast<T>(C) + static_cast<T>(eps));
      for (std::int64_t c = 0; c < C; ++c) out[c] = in[c] * r * w.data<T>()[c];
      rstd.data<T>()[n] = r;
    });
  });
}

// With x' = x r:  dw = sum over rows of dy x';  dx = r (dy w - x' mean(dy w x')).
void RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                     const Tensor& w, const Tensor& rstd) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    const T* r = rstd.data<T>();
    if (!dx.empty()) {
      ForRows(ctx, rows, C, [&](std::int64_t n) {
        const T *in = x.data<T>() + n * C, *grad = dy.data<T>() + n * C, *weight = w.data<T>();
        T* out = dx.data<T>() + n * C;
        T sum = 0;
        for (std::int64_t c = 0; c < C; ++c) sum += grad[c] * weight[c] * in[c];
        const T mean = sum * r[n] / static_cast<T>(C);
        for (std::int64_t c = 0; c < C; ++c) out[c] += r[n] * (grad[c] * weight[c] - in[c] * r[n] * mean);
      });
    }
    if (!dw.empty()) {
      ForColumnBlocks(ctx, C, rows, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = 0; n < rows; ++n) {
          const T *in = x.data<T>() + n * C, *grad = dy.data<T>() + n * C;
          for (std::int64_t c = begin; c < end; ++c) dw.data<T>()[c] += grad[c] * in[c] * r[n];
        }
      });
    }
  });
}

}  // namespace swarr
