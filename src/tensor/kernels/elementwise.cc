// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The ops that go element by element: add, cast, SwiGLU.
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/lanes.h"
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
      const T *g = gate.data<T>() + begin, *u = up.data<T>() + begin;
      T* out = y.data<T>() + begin;
      ForSigmoids<Sum>(
          end - begin, [=](std::int64_t i) { return Sum(g[i]); },
          [=](std::int64_t i, Sum s) { out[i] = static_cast<T>(Gated(Sum(g[i]), s, Sum(u[i]))); });
    });
  });
}

namespace {

// A row of SwiGLU's backward as in training, where both gradients are written: one sigmoid serves them and, if it is
// wanted (kAgain), the result y, which may lie over dy.
template <bool kAgain, class T>
void WriteGatedGradients(std::int64_t F, const T* dy, const T* g, const T* u, T* dg, T* du, T* y) {
  using Sum = Accumulator<T>;
  ForSigmoids<Sum>(
      F, [=](std::int64_t i) { return Sum(g[i]); },
      [=](std::int64_t i, Sum s) {
        const Sum gate = Sum(g[i]), up = Sum(u[i]);
        const GatedGradient<Sum> d(Sum(dy[i]), gate, s, up);
        dg[i] = static_cast<T>(d.gate);
        du[i] = static_cast<T>(d.up);
        if constexpr (kAgain) y[i] = static_cast<T>(Gated(gate, s, up));
      });
}

}  // namespace

template <>
void Kernels<SWARR_SET>::SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy,
                                        const Tensor& gate, const Tensor& up, const Tensor& y) {
  const std::int64_t N = dy.dim(0), F = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const auto row = [F](const Tensor& t, std::int64_t n) { return t.empty() ? nullptr : t.data<T>() + n * F; };
    const bool writes_both = !dgate.empty() && !dup.empty() && dgate.fresh() && dup.fresh();
    ForRows(ctx, N, F, [&](std::int64_t n) {
      const T *g = row(gate, n), *u = row(up, n), *grad = row(dy, n);
      T *dg = row(dgate, n), *du = row(dup, n), *out = row(y, n);
      if (writes_both) {
        const auto write = out ? WriteGatedGradients<true, T> : WriteGatedGradients<false, T>;
        return write(F, grad, g, u, dg, du, out);
      }
      const auto gradient = [&](std::int64_t i) { return GatedGradient<Sum>(Sum(grad[i]), Sum(g[i]), Sum(u[i])); };
      if (dg) WriteGradient(dgate.fresh(), F, dg, [&](std::int64_t i) { return gradient(i).gate; });
      if (du) WriteGradient(dup.fresh(), F, du, [&](std::int64_t i) { return gradient(i).up; });
      for (std::int64_t i = 0; out && i < F; ++i) out[i] = static_cast<T>(Gated(Sum(g[i]), Sum(u[i])));
    });
  });
}

}  // namespace swarr
