// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {
namespace {

// One head, of pairs (x[i], x[i + half]); no two of the arrays overlap unless to and from are the same. Whether the
// result is fresh is a constant of the loop, which is not vectorised where it reads `to` in some cases only.
template <bool kFresh, class T, class Sum>
void RotateHead(std::int64_t half, const T* from, const Sum* cosine, const Sum* sine, Sum sign, T* to) {
  const T* other = from + half;
  T* to_other = to + half;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < half; ++i) {
    const TurnedPair<Sum> turned(Sum(from[i]), Sum(other[i]), cosine[i], sign * sine[i]);
    to[i] = static_cast<T>(kFresh ? turned.first : Sum(to[i]) + turned.first);
    to_other[i] = static_cast<T>(kFresh ? turned.second : Sum(to_other[i]) + turned.second);
  }
}

// out (+)= x turned by `sign` times the angles of its position.
template <class T>
void Rotate(const Context& ctx, bool fresh, const Tensor& out, const Tensor& x, const Tensor& positions,
            const Tensor& table, Accumulator<T> sign) {
  using Sum = Accumulator<T>;
  const std::int64_t N = x.dim(0), H = x.dim(1), D = x.dim(2), half = D / 2;
  const std::int32_t* position = positions.data<std::int32_t>();
  const auto rotate = fresh ? RotateHead<true, T, Sum> : RotateHead<false, T, Sum>;
  ForRows(ctx, N, H * D, [&](std::int64_t n) {
    const Sum* cosine = table.data<Sum>() + position[n] * D;
    const T* from = x.data<T>() + n * H * D;
    T* to = out.data<T>() + n * H * D;
    for (std::int64_t h = 0; h < H; ++h) rotate(half, from + h * D, cosine, cosine + half, sign, to + h * D);
  });
}

}  // namespace

template <>
void Kernels<SWARR_SET>::RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions,
                                     const Tensor& table) {
  Dispatch(x.dtype(), [&]<class T>() { Rotate<T>(ctx, /*fresh=*/true, y, x, positions, table, 1); });
}

template <>
void Kernels<SWARR_SET>::RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                                      const Tensor& table) {
  Dispatch(dy.dtype(), [&]<class T>() { Rotate<T>(ctx, dx.fresh(), dx, dy, positions, table, -1); });
}

}  // namespace swarr
