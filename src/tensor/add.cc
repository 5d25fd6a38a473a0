// SPDX-License-Identifier: Apache-2.0
#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {

void AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  SWARR_CHECK(y.SameShape(a) && y.SameShape(b), "sum of ", a.ShapeString(), " and ", b.ShapeString());
  const std::int64_t rows = y.dim(0), width = rows == 0 ? 0 : y.size() / rows;
  Dispatch(y.dtype(), [&]<class T>() {
    ForRows(ctx, rows, width, [&](std::int64_t n) {
      const T *from_a = a.data<T>() + n * width, *from_b = b.data<T>() + n * width;
      T* out = y.data<T>() + n * width;
      for (std::int64_t i = 0; i < width; ++i) out[i] = from_a[i] + from_b[i];
    });
  });
}

void AddBackward(const Context& ctx, const Tensor& da, const Tensor& db, const Tensor& dy) {
  if (!da.empty()) AddForward(ctx, da, da, dy);
  if (!db.empty()) AddForward(ctx, db, db, dy);
}

}  // namespace swarr
