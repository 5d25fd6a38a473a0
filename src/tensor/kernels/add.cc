// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  Dispatch(y.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForElements(ctx, y.size(), [&](std::int64_t begin, std::int64_t end) {
      const T *from_a = a.data<T>(), *from_b = b.data<T>();
      T* out = y.data<T>();
      for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<T>(Sum(from_a[i]) + Sum(from_b[i]));
    });
  });
}

}  // namespace swarr
