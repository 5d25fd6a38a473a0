// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"
#include "tensor/kernels/softmax_row.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::LogSoftmaxRows(const Context& ctx, const Tensor& logp, const Tensor& lse,
                                        const Tensor& entropy, const Tensor& logits, const Tensor& targets) {
  const std::int64_t V = logits.dim(1);
  DispatchSum(logits.dtype(), [&]<class T>() {
    ForRows(ctx, logits.dim(0), 3 * V, [&](std::int64_t n) {
      const T* z = logits.data<T>() + n * V;
      const SoftmaxRow<T> softmax = SoftmaxOf(z, V);
      lse.data<T>()[n] = softmax.lse;
      entropy.data<T>()[n] = softmax.entropy;
      logp.data<T>()[n] = z[targets.data<std::int32_t>()[n]] - softmax.lse;
    });
  });
}

// dlogits may be logits: a row's target is read before the row is written.
template <>
void Kernels<SWARR_SET>::LogSoftmaxRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp,
                                                const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                                                const Tensor& logits, const Tensor& targets) {
  const std::int64_t V = logits.dim(1);
  Dispatch(dlogits.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForRows(ctx, logits.dim(0), V, [&](std::int64_t n) {
      const Sum* z = logits.data<Sum>() + n * V;
      T* dz = dlogits.data<T>() + n * V;
      const Sum c = dlogp.data<Sum>()[n], log_sum = lse.data<Sum>()[n];
      const std::int32_t target = targets.data<std::int32_t>()[n];
      const auto write = [&](const auto& gradient) {
        const Sum at_target = c + gradient(z[target] - log_sum);
        for (std::int64_t v = 0; v < V; ++v) dz[v] = static_cast<T>(gradient(z[v] - log_sum));
        dz[target] = static_cast<T>(at_target);
      };
      if (dentropy.empty()) return write([=](Sum log_p) { return LogitGradient(Exp(log_p), c); });
      const Sum e = dentropy.data<Sum>()[n], H = entropy.data<Sum>()[n];
      write([=](Sum log_p) { return LogitGradient(Exp(log_p), log_p, c, e, H); });
    });
  });
}

}  // namespace swarr
