// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() {
      ForElements(ctx, x.size(), [&](std::int64_t begin, std::int64_t end) {
        const From* from = x.data<From>();
        To* to = y.data<To>();
        for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
      });
    });
  });
}

}  // namespace swarr
