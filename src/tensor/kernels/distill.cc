// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/lanes.h"
#include "tensor/kernels/rows.h"
#include "tensor/kernels/softmax_row.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::DistillRows(const Context& ctx, const DistillResults& results, const Tensor& logits,
                                     const Tensor& teacher_logits, const DistillOptions& options) {
  const std::int64_t V = logits.dim(1);
  DispatchSum(logits.dtype(), [&]<class T>() {
    const T temperature = static_cast<T>(options.temperature);
    ForRows(ctx, logits.dim(0), 6 * V, [&](std::int64_t n) {
      T *z = logits.data<T>() + n * V, *teacher_z = teacher_logits.data<T>() + n * V;
      for (std::int64_t v = 0; v < V; ++v) z[v] /= temperature;
      for (std::int64_t v = 0; v < V; ++v) teacher_z[v] /= temperature;
      const T lse = SoftmaxOf(z, V).lse, teacher_lse = SoftmaxOf(teacher_z, V).lse;
      results.lse.data<T>()[n] = lse;
      results.teacher_lse.data<T>()[n] = teacher_lse;
      const auto kl = [&](const T* a, T lse_a, const T* b, T lse_b) {
        return LaneSum<T>(V, [&](std::int64_t v) { return KlTermOf(a[v] - lse_a, b[v] - lse_b); });
      };
      const bool forward = options.direction == KlDirection::kForward;
      results.kl.data<T>()[n] = forward ? kl(teacher_z, teacher_lse, z, lse) : kl(z, lse, teacher_z, teacher_lse);
    });
  });
}

// dlogits may be logits.
template <>
void Kernels<SWARR_SET>::DistillRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dkl,
                                             const DistillResults& results, const Tensor& logits,
                                             const Tensor& teacher_logits, const DistillOptions& options) {
  const std::int64_t V = logits.dim(1);
  Dispatch(dlogits.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const Sum temperature = static_cast<Sum>(options.temperature);
    ForRows(ctx, logits.dim(0), 2 * V, [&](std::int64_t n) {
      const Sum *z = logits.data<Sum>() + n * V, *teacher_z = teacher_logits.data<Sum>() + n * V;
      T* dz = dlogits.data<T>() + n * V;
      const Sum lse = results.lse.data<Sum>()[n], teacher_lse = results.teacher_lse.data<Sum>()[n];
      const Sum scale = dkl.data<Sum>()[n] / temperature, kl = results.kl.data<Sum>()[n];
      const auto write = [&](const auto& gradient) {
        for (std::int64_t v = 0; v < V; ++v) {
          dz[v] = static_cast<T>(scale * gradient(z[v] / temperature - lse, teacher_z[v] / temperature - teacher_lse));
        }
      };
      switch (options.direction) {
        case KlDirection::kForward:
          return write([](Sum log_p, Sum log_q) { return ForwardKlGradient(log_p, log_q); });
        case KlDirection::kReverse:
          return write([=](Sum log_p, Sum log_q) { return ReverseKlGradient(log_p, log_q, kl); });
      }
    });
  });
}

}  // namespace swarr
