// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The ops that go element by element: add, cast, SwiGLU.
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  Dispatch(y.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForElements(ctx, y.size(), [&](std::int64_t begin, std::int64_t end) {
      const T *from_a = a.data<T>(), *from_b = b.data<T>();
      T* out = y.data<T>();
      for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(Sum(from_a[i]) + Sum(from_b[i]));
    });
  });
}

template <>
void Kernels<SWARR_SET>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() {
      ForElements(ctx, x.size(), [&](std::int64_t begin, std::int64_t end) {
        const From* from = x.data<From>();
        To* to = y.data<To>();
        for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
      });
    });
  });
}

template <>
void Kernels<SWARR_SET>::SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up) {
  Dispatch(y.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForElements(ctx, y.size(), [&](std::int64_t begin, std::int64_t end) {
      const T *g = gate.data<T>(), *u = up.data<T>();
      T* out = y.data<T>();
      for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(Gated(Sum(g[i]), Sum(u[i])));
    });
  });
}

template <>
void Kernels<SWARR_SET>::SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy,
                                        const Tensor& gate, const Tensor& up, const Tensor& y) {
  const std::int64_t N = dy.dim(0), F = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForRows(ctx, N, F, [&](std::int64_t n) {
      const T *g = gate.data<T>() + n * F, *u = up.data<T>() + n * F, *grad = dy.data<T>() + n * F;
      const auto gradient = [&](std::int64_t i) { return GatedGradient<Sum>(Sum(grad[i]), Sum(g[i]), Sum(u[i])); };
      if (!dgate.empty() && !dup.empty() && dgate.fresh() && dup.fresh()) {  // as in training: one sigmoid for both
        T *dg = dgate.data<T>() + n * F, *du = dup.data<T>() + n * F;
#pragma GCC ivdep
        for (std::int64_t i = 0; i < F; ++i) {
          const GatedGradient<Sum> d = gradient(i);
          dg[i] = static_cast<T>(d.gate);
          du[i] = static_cast<T>(d.up);
        }
      } else {
        if (!dgate.empty()) {
          WriteGradient(dgate.fresh(), F, dgate.data<T>() + n * F, [&](std::int64_t i) { return gradient(i).gate; });
        }
        if (!dup.empty()) {
          WriteGradient(dup.fresh(), F, dup.data<T>() + n * F, [&](std::int64_t i) { return gradient(i).up; });
        }
      }
      if (y.empty()) return;
      T* out = y.data<T>() + n * F;
      for (std::int64_t i = 0; i < F; ++i) out[i] = static_cast<T>(Gated(Sum(g[i]), Sum(u[i])));
    });
  });
}

}  // namespace swarr
