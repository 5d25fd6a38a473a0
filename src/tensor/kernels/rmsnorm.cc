// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/lanes.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x,
                                        const Tensor& w, double eps) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForRows(ctx, rows, C, [&](std::int64_t n) {
      const T *in = x.data<T>() + n * C, *weight = w.data<T>();
      T* out = y.data<T>() + n * C;
      const Sum squares = LaneSum<Sum>(C, [&](std::int64_t c) { return Sum(in[c]) * Sum(in[c]); });
      const Sum r = InverseRms(squares, C, static_cast<Sum>(eps));
      for (std::int64_t c = 0; c < C; ++c) out[c] = static_cast<T>(Normed(Sum(in[c]), r, Sum(weight[c])));
      rstd.data<Sum>()[n] = r;
    });
  });
}

template <>
void Kernels<SWARR_SET>::RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy,
                                         const Tensor& x, const Tensor& w, const Tensor& rstd, const Tensor& y) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const Sum* r = rstd.data<Sum>();
    ForRows(ctx, dx.empty() && y.empty() ? 0 : rows, C, [&](std::int64_t n) {
      const T *in = x.data<T>() + n * C, *grad = dy.data<T>() + n * C, *weight = w.data<T>();
      const Sum scale = r[n];
      if (!dx.empty()) {
        const Sum sum = LaneSum<Sum>(C, [&](std::int64_t c) { return Sum(grad[c]) * Sum(weight[c]) * Sum(in[c]); });
        const Sum mean = sum * scale / static_cast<Sum>(C);
        WriteGradient(dx.fresh(), C, dx.data<T>() + n * C, [&](std::int64_t c) {
          return NormedGradient(Sum(grad[c]), Sum(weight[c]), Sum(in[c]), scale, mean);
        });
      }
      if (!y.empty()) {
        T* out = y.data<T>() + n * C;
        for (std::int64_t c = 0; c < C; ++c) out[c] = static_cast<T>(Normed(Sum(in[c]), scale, Sum(weight[c])));
      }
    });
    if (!dw.empty()) {
      ForColumns(ctx, C, rows, [&](std::int64_t begin, std::int64_t end) {
        Sum* to = dw.data<Sum>();
        for (std::int64_t n = 0; n < rows; ++n) {
          const T *in = x.data<T>() + n * C, *grad = dy.data<T>() + n * C;
          const Sum scale = r[n];
          for (std::int64_t c = begin; c < end; ++c) to[c] += NormWeightGradient(Sum(grad[c]), Sum(in[c]), scale);
        }
      });
    }
  });
}

}  // namespace swarr
