// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/cast.cc. Element by element; a thread takes kCast elements, so that an access is of 8 to
// 32 bytes.
#include "cuda/cuda.h"
#include "cuda/pack.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kCast = 4;

template <class To, class From>
__global__ void CastKernel(std::int64_t n, bool aligned, To* y, const From* x) {
  const std::int64_t i = FirstOfThread<kCast>();
  if (i >= n) return;
  const Pack<From, kCast> in = LoadPack<kCast>(x, i, n, aligned);
  Pack<To, kCast> out;
  for (int j = 0; j < kCast; ++j) out.at[j] = static_cast<To>(in.at[j]);
  StorePack<kCast>(y, i, n, aligned, out);
}

}  // namespace

template <>
void Kernels<Cuda>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  const std::int64_t n = x.size();
  if (n == 0) return;
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() {
      const bool aligned = Aligned<kCast>(x.data<From>()) && Aligned<kCast>(y.data<To>());
      CastKernel<<<PackBlocks<kCast>(n), kThreads, 0, StreamOf(ctx)>>>(n, aligned, y.data<To>(), x.data<From>());
      SWARR_CHECK_LAUNCH();
    });
  });
}

}  // namespace swarr
