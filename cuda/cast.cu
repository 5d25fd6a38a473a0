// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/cast.cc. Element by element; a thread takes kCast elements, so that an access is of 8 to
// 32 bytes.
#include "cuda/pack.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kCast = 4;

struct Same {
  template <class T>
  __device__ T operator()(T x) const {
    return x;
  }
};

}  // namespace

template <>
void Kernels<Cuda>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() { Map<kCast>(ctx, x.size(), Same{}, y.data<To>(), x.data<From>()); });
  });
}

}  // namespace swarr
