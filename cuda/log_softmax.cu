// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/log_softmax.cc. Forward: a block takes a row (cuda/softmax_row.h). Backward: element by
// element; a block takes kColumns consecutive entries of a row, a thread kEntries of them. Left out: keeping a row on
// the chip; its second reading mostly hits the L2 cache.
#include "cuda/pack.h"
#include "cuda/softmax_row.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kEntries = 4;
constexpr int kColumns = kThreads * kEntries;

template <class T>
__global__ void __launch_bounds__(kMaxSoftmaxThreads, 1)
    ForwardKernel(std::int64_t V, T* logp, T* lse, T* entropy, const T* logits, const std::int32_t* targets) {
  const std::int64_t n = blockIdx.x;
  const T* z = logits + n * V;
  const SoftmaxRow<T> softmax = BlockSoftmaxOf(z, V);
  if (threadIdx.x != 0) return;
  lse[n] = softmax.lse;
  entropy[n] = softmax.entropy;
  logp[n] = z[targets[n]] - softmax.lse;
}

// A null dentropy stands for zeros. dlogits may be logits: a thread reads only those whose gradients it writes.
template <class T>
__global__ void BackwardKernel(std::int64_t V, std::int64_t blocks_per_row, bool aligned, T* dlogits,
                               const Accumulator<T>* dlogp, const Accumulator<T>* dentropy, const Accumulator<T>* lse,
                               const Accumulator<T>* entropy, const Accumulator<T>* logits,
                               const std::int32_t* targets) {
  using Sum = Accumulator<T>;
  const std::int64_t n = blockIdx.x / blocks_per_row, begin = blockIdx.x % blocks_per_row * kColumns;
  const std::int64_t first = begin + threadIdx.x * kEntries;
  if (first >= V) return;
  const Sum c = dlogp[n], log_sum = lse[n];
  const std::int64_t target = targets[n];
  const Pack<Sum, kEntries> z = LoadPack<kEntries>(logits + n * V, first, V, aligned);
  Pack<T, kEntries> dz;
  for (int j = 0; j < kEntries; ++j) {
    const Sum log_p = z.at[j] - log_sum;
    const Sum p = Exp(log_p),
              others = dentropy ? LogitGradient(p, log_p, c, dentropy[n], entropy[n]) : LogitGradient(p, c);
    dz.at[j] = static_cast<T>(first + j == target ? c + others : others);
  }
  StorePack<kEntries>(dlogits + n * V, first, V, aligned, dz);
}

}  // namespace

template <>
void Kernels<Cuda>::LogSoftmaxRows(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                                   const Tensor& logits, const Tensor& targets) {
  const std::int64_t rows = logits.dim(0), V = logits.dim(1);
  DispatchSum(logits.dtype(), [&]<class T>() {
    Launch(ctx, {rows, SoftmaxThreads(V)}, ForwardKernel<T>, V, logp, lse, entropy, logits, targets);
  });
}

template <>
void Kernels<Cuda>::LogSoftmaxRowsBackward(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp,
                                           const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                                           const Tensor& logits, const Tensor& targets) {
  const std::int64_t rows = logits.dim(0), V = logits.dim(1), blocks_per_row = Blocks(V, kColumns);
  Dispatch(dlogits.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const bool aligned = RowsAligned<kEntries>(V, dlogits.data<T>()) && RowsAligned<kEntries>(V, logits.data<Sum>());
    Launch(ctx, {rows * blocks_per_row}, BackwardKernel<T>, V, blocks_per_row, aligned, dlogits, dlogp, dentropy, lse,
           entropy, logits, targets);
  });
}

}  // namespace swarr
