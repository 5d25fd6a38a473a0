// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tensor/ops.h"
#include "tensor/rows.h"

namespace swarr {
namespace {

// out (+)= x turned by `sign` times the angles of its position. The inverse of a rotation is its transpose, so the
// backward is the same turn with the sign changed.
template <class T>
void Rotate(const Context& ctx, const Tensor& out, const Tensor& x, const Tensor& positions, const Tensor& table,
            T sign, bool accumulate) {
  const std::int64_t N = x.dim(0), H = x.dim(1), D = x.dim(2), half = D / 2;
  const std::int32_t* position = positions.data<std::int32_t>();
  ForRows(ctx, N, H * D, [&](std::int64_t n) {
    const T* cosine = table.data<T>() + position[n] * D;
    const T* sine = cosine + half;
    for (std::int64_t h = 0; h < H; ++h) {
      const T* from = x.data<T>() + (n * H + h) * D;
      T* to = out.data<T>() + (n * H + h) * D;
      for (std::int64_t i = 0; i < half; ++i) {
        const T a = from[i], b = from[i + half], s = sign * sine[i];
        const T first = a * cosine[i] - b * s, second = b * cosine[i] + a * s;
        to[i] = accumulate ? to[i] + first : first;
        to[i + half] = accumulate ? to[i + half] + second : second;
      }
    }
  });
}

}  // namespace

void RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions, const Tensor& table) {
  const std::int64_t N = x.dim(0), D = x.dim(2);
  CheckShape(positions, DType::kI32, {N}, "rope positions");
  CheckShape(table, x.dtype(), {-1, D}, "rope table");
  SWARR_CHECK(y.SameShape(x) && D % 2 == 0, "rope of ", x.ShapeString(), " into ", y.ShapeString());
  for (std::int64_t n = 0; n < N; ++n) {
    const std::int32_t p = positions.data<std::int32_t>()[n];
    SWARR_CHECK(p >= 0 && p < table.dim(0), "position ", p, " is outside the model's context of ", table.dim(0),
                " tokens (max_position_embeddings in config.json)");
  }
  Dispatch(x.dtype(), [&]<class T>() { Rotate<T>(ctx, y, x, positions, table, T(1), /*accumulate=*/false); });
}

void RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                  const Tensor& table) {
  if (dx.empty()) return;
  Dispatch(dy.dtype(), [&]<class T>() { Rotate<T>(ctx, dx, dy, positions, table, T(-1), /*accumulate=*/true); });
}

void FillRopeTable(const Tensor& table, double theta) {
  const std::int64_t P = table.dim(0), D = table.dim(1), half = D / 2;
  Dispatch(table.dtype(), [&]<class T>() {
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
        table.data<T>()[p * D + i] = static_cast<T>(std::cos(angle));
        table.data<T>()[p * D + half + i] = static_cast<T>(std::sin(angle));
      }
    }
  });
}

}  // namespace swarr
