// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/add.cc. Element by element; a thread takes one pack of 16 bytes, and loads before it
// stores: y may be a or b.
#include "cuda/cuda.h"
#include "cuda/pack.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T>
__global__ void ForwardKernel(std::int64_t n, bool aligned, T* y, const T* a, const T* b) {
  using Sum = Accumulator<T>;
  constexpr int k = kPack<T>;
  const std::int64_t i = FirstOfThread<k>();
  if (i >= n) return;
  const Pack<T, k> p = LoadPack<k>(a, i, n, aligned), q = LoadPack<k>(b, i, n, aligned);
  Pack<T, k> out;
  for (int j = 0; j < k; ++j) out.at[j] = static_cast<T>(Sum(p.at[j]) + Sum(q.at[j]));
  StorePack<k>(y, i, n, aligned, out);
}

}  // namespace

template <>
void Kernels<Cuda>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  const std::int64_t n = y.size();
  if (n == 0) return;
  Dispatch(y.dtype(), [&]<class T>() {
    constexpr int k = kPack<T>;
    const bool aligned = Aligned<k>(y.data<T>(), a.data<T>(), b.data<T>());
    ForwardKernel<T>
        <<<PackBlocks<k>(n), kThreads, 0, StreamOf(ctx)>>>(n, aligned, y.data<T>(), a.data<T>(), b.data<T>());
    SWARR_CHECK_LAUNCH();
  });
}

}  // namespace swarr
