// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {

template <>
void Kernels<SWARR_SET>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  constexpr std::int64_t kChunk = 4096;
  const std::int64_t n = x.size();
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() {
      ForRows(ctx, (n + kChunk - 1) / kChunk, kChunk, [&](std::int64_t chunk) {
        const From* from = x.data<From>();
        To* to = y.data<To>();
        const std::int64_t end = std::min(n, (chunk + 1) * kChunk);
        for (std::int64_t i = chunk * kChunk; i < end; ++i) to[i] = static_cast<To>(from[i]);
      });
    });
  });
}

}  // namespace swarr
