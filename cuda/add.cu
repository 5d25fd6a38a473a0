// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/add.cc. Element by element; a thread takes one pack of 16 bytes.
#include "cuda/pack.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T>
struct Sum {
  __device__ Accumulator<T> operator()(T a, T b) const { return Accumulator<T>(a) + Accumulator<T>(b); }
};

}  // namespace

template <>
void Kernels<Cuda>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  Dispatch(y.dtype(),
           [&]<class T>() { Map<kPack<T>>(ctx, y.size(), Sum<T>{}, y.data<T>(), a.data<T>(), b.data<T>()); });
}

}  // namespace swarr
