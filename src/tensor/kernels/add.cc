// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  const std::int64_t rows = y.dim(0), width = rows == 0 ? 0 : y.size() / rows;
  Dispatch(y.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForRows(ctx, rows, width, [&](std::int64_t n) {
      const T *from_a = a.data<T>() + n * width, *from_b = b.data<T>() + n * width;
      T* out = y.data<T>() + n * width;
      for (std::int64_t i = 0; i < width; ++i) out[i] = static_cast<T>(Sum(from_a[i]) + Sum(from_b[i]));
    });
  });
}

}  // namespace swarr
