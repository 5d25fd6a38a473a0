// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <algorithm>

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::GatherRows(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& rows) {
  const std::int64_t N = rows.dim(0), C = x.dim(1);
  const std::int32_t* row = rows.data<std::int32_t>();
  Dispatch(x.dtype(), [&]<class T>() {
    ForRows(ctx, N, C, [&](std::int64_t n) { std::copy_n(x.data<T>() + row[n] * C, C, y.data<T>() + n * C); });
  });
}

template <>
void Kernels<SWARR_SET>::EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids) {
  const std::int64_t N = ids.dim(0), C = dw.dim(1);
  const std::int32_t* id = ids.data<std::int32_t>();
  Dispatch(dy.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForColumns(ctx, C, N, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = 0; n < N; ++n) {
        Sum* to = dw.data<Sum>() + id[n] * C;
        const T* from = dy.data<T>() + n * C;
        for (std::int64_t c = begin; c < end; ++c) to[c] += Sum(from[c]);
      }
    });
  });
}

}  // namespace swarr
