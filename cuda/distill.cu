// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/distill.cc. Forward: a block takes a row (cuda/softmax_row.h). Backward: element by
// element; a block takes kThreads consecutive entries of a row.
#include "cuda/softmax_row.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T>
__device__ SoftmaxRow<T> DivideAndNormalise(T* z, std::int64_t V, T temperature) {
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) z[v] /= temperature;
  __syncthreads();  // BlockSoftmaxOf shares a row out in another way
  return BlockSoftmaxOf(z, V);
}

template <class T>
__global__ void __launch_bounds__(kMaxSoftmaxThreads, 1)
    ForwardKernel(std::int64_t V, T* kl, T* lse, T* teacher_lse, T* logits, T* teacher_logits, T temperature,
                  bool forward) {
  const std::int64_t n = blockIdx.x;
  T *z = logits + n * V, *teacher_z = teacher_logits + n * V;
  const T log_sum = DivideAndNormalise(z, V, temperature).lse;
  const T teacher_log_sum = DivideAndNormalise(teacher_z, V, temperature).lse;
  T sum = 0;
  for (std::int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    const T log_p = z[v] - log_sum, log_q = teacher_z[v] - teacher_log_sum;
    sum += forward ? KlTermOf(log_q, log_p) : KlTermOf(log_p, log_q);
  }
  sum = BlockSum(sum);
  if (threadIdx.x != 0) return;
  kl[n] = sum;
  lse[n] = log_sum;
  teacher_lse[n] = teacher_log_sum;
}

// dlogits may be logits: a thread reads only those whose gradients it writes.
template <class T>
__global__ void BackwardKernel(std::int64_t V, std::int64_t blocks_per_row, T* dlogits, const Accumulator<T>* dkl,
                               const Accumulator<T>* kl, const Accumulator<T>* lse, const Accumulator<T>* teacher_lse,
                               const Accumulator<T>* logits, const Accumulator<T>* teacher_logits,
                               Accumulator<T> temperature, bool forward) {
  using Sum = Accumulator<T>;
  const std::int64_t n = blockIdx.x / blocks_per_row, v = blockIdx.x % blocks_per_row * kThreads + threadIdx.x;
  if (v >= V) return;
  const Sum log_p = logits[n * V + v] / temperature - lse[n];
  const Sum log_q = teacher_logits[n * V + v] / temperature - teacher_lse[n];
  const Sum gradient = forward ? ForwardKlGradient(log_p, log_q) : ReverseKlGradient(log_p, log_q, kl[n]);
  dlogits[n * V + v] = static_cast<T>(dkl[n] / temperature * gradient);
}

}  // namespace

template <>
void Kernels<Cuda>::DistillRows(const Context& ctx, const DistillResults& results, const Tensor& logits,
                                const Tensor& teacher_logits, const DistillOptions& options) {
  const std::int64_t rows = logits.dim(0), V = logits.dim(1);
  DispatchSum(logits.dtype(), [&]<class T>() {
    Launch(ctx, {rows, SoftmaxThreads(V)}, ForwardKernel<T>, V, results.kl, results.lse, results.teacher_lse, logits,
           teacher_logits, static_cast<T>(options.temperature), options.direction == KlDirection::kForward);
  });
}

template <>
void Kernels<Cuda>::DistillRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dkl,
                                        const DistillResults& results, const Tensor& logits,
                                        const Tensor& teacher_logits, const DistillOptions& options) {
  const std::int64_t rows = logits.dim(0), V = logits.dim(1), blocks_per_row = Blocks(V, kThreads);
  Dispatch(dlogits.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    Launch(ctx, {rows * blocks_per_row}, BackwardKernel<T>, V, blocks_per_row, dlogits, dkl, results.kl, results.lse,
           results.teacher_lse, logits, teacher_logits, static_cast<Sum>(options.temperature),
           options.direction == KlDirection::kForward);
  });
}

}  // namespace swarr
