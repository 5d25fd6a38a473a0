// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/linear.cc: the gradient of a bias, sums over rows (cuda/sums.h). The products are in
// gemm.cu.
#include "cuda/sums.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T>
struct Widen {
  const T* dy;
  std::int64_t columns;
  __device__ Accumulator<T> operator()(std::int64_t n, std::int64_t c) const {
    return static_cast<Accumulator<T>>(dy[n * columns + c]);
  }
};

}  // namespace

template <>
void Kernels<Cuda>::BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy) {
  const std::int64_t N = dy.dim(0), O = dy.dim(1);
  if (N == 0 || O == 0) return;
  Dispatch(dy.dtype(), [&]<class T>() {
    AddColumnSums(ctx, db.data<Accumulator<T>>(), N, O, Widen<T>{dy.data<T>(), O});
  });
}

}  // namespace swarr
