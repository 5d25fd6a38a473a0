// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy) {
  const std::int64_t N = dy.dim(0), O = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForColumns(ctx, O, N, [&](std::int64_t begin, std::int64_t end) {
      Sum* to = db.data<Sum>();
      for (std::int64_t n = 0; n < N; ++n) {
        const T* from = dy.data<T>() + n * O;
        for (std::int64_t o = begin; o < end; ++o) to[o] += Sum(from[o]);
      }
    });
  });
}

}  // namespace swarr
