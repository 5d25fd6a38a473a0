// SPDX-License-Identifier: Apache-2.0
#include "tensor/math.h"
#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {

void SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up) {
  SWARR_CHECK(y.SameShape(gate) && y.SameShape(up), "swiglu of ", gate.ShapeString(), " and ", up.ShapeString());
  const std::int64_t N = y.dim(0), F = y.dim(1);
  Dispatch(y.dtype(), [&]<class T>() {
    ForRows(ctx, N, F, [&](std::int64_t n) {
      const T *g = gate.data<T>() + n * F, *u = up.data<T>() + n * F;
      T* out = y.data<T>() + n * F;
      for (std::int64_t i = 0; i < F; ++i) out[i] = g[i] * Sigmoid(g[i]) * u[i];
    });
  });
}

// With s = sigmoid(gate): d silu / d gate = s (1 + gate (1 - s)).
void SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy, const Tensor& gate,
                    const Tensor& up) {
  const std::int64_t N = dy.dim(0), F = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    ForRows(ctx, N, F, [&](std::int64_t n) {
      const T *g = gate.data<T>() + n * F, *u = up.data<T>() + n * F, *grad = dy.data<T>() + n * F;
      T* dg = dgate.empty() ? nullptr : dgate.data<T>() + n * F;
      T* du = dup.empty() ? nullptr : dup.data<T>() + n * F;
      for (std::int64_t i = 0; i < F; ++i) {
        const T s = Sigmoid(g[i]);
        if (dg) dg[i] += grad[i] * u[i] * s * (T(1) + g[i] * (T(1) - s));
        if (du) du[i] += grad[i] * g[i] * s;
      }
    });
  });
}

}  // namespace swarr
