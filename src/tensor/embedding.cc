// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {

void EmbeddingForward(const Context& ctx, const Tensor& y, const Tensor& w, const Tensor& ids) {
  const std::int64_t N = ids.dim(0), V = w.dim(0), C = w.dim(1);
  CheckShape(ids, DType::kI32, {-1}, "embedding ids");
  CheckShape(y, w.dtype(), {N, C}, "embedding output");
  const std::int32_t* id = ids.data<std::int32_t>();
  for (std::int64_t n = 0; n < N; ++n) {
    SWARR_CHECK(id[n] >= 0 && id[n] < V, "token id ", id[n], " is outside the vocabulary of ", V);
  }
  Dispatch(w.dtype(), [&]<class T>() {
    ForRows(ctx, N, C, [&](std::int64_t n) { std::copy_n(w.data<T>() + id[n] * C, C, y.data<T>() + n * C); });
  });
}

void EmbeddingBackward(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& ids) {
  const std::int64_t N = ids.dim(0), C = dw.dim(1);
  CheckShape(dy, dw.dtype(), {N, C}, "embedding output gradient");
  const std::int32_t* id = ids.data<std::int32_t>();
  Dispatch(dw.dtype(), [&]<class T>() {
    ForColumnBlocks(ctx, C, N, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = 0; n < N; ++n) {
        T* to = dw.data<T>() + id[n] * C;
        const T* from = dy.data<T>() + n * C;
        for (std::int64_t c = begin; c < end; ++c) to[c] += from[c];
      }
    });
  });
}

}  // namespace swarr
