// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rope.cc. A thread takes as many consecutive pairs (x[i], x[i + half]) of a head as fill an
// access of 16 bytes, and loads all of them before it stores, so that y may be x.
#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

// out (+)= x turned by `sign` times the angles of its position. `packs`: of all heads of all rows.
template <bool whole, class T>
__global__ void RotateKernel(std::int64_t packs, int H, int half, bool fresh, T* out, const T* x,
                             const std::int32_t* positions, const Accumulator<T>* table, Accumulator<T> sign) {
  using Sum = Accumulator<T>;
  constexpr int k = kPack<T>;
  constexpr std::bool_constant<whole> aligned;
  const std::int64_t pack = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  WaitForPrevious();
  if (pack >= packs) return;
  const int of_head = (half + k - 1) / k, of_row = H * of_head;
  const std::int64_t n = pack / of_row;
  const int in_row = static_cast<int>(pack - n * of_row), head = in_row / of_head;
  const std::int64_t i = (in_row - head * of_head) * k, first_of_head = (n * H + head) * 2 * half;
  const Sum* angles = table + positions[n] * std::int64_t{2 * half};
  const T* from = x + first_of_head;
  T* to = out + first_of_head;
  const Pack<T, k> a = LoadPack<k>(from, i, half, aligned), b = LoadPack<k>(from + half, i, half, aligned);
  const Pack<Sum, k> cosine = LoadPack<k>(angles, i, half, aligned),
                     sine = LoadPack<k>(angles + half, i, half, aligned);
  Pack<T, k> first = LoadGradient<k>(fresh, to, i, half, aligned),
             second = LoadGradient<k>(fresh, to + half, i, half, aligned);
#pragma unroll
  for (int j = 0; j < k; ++j) {
    const TurnedPair<Sum> turned(Sum(a.at[j]), Sum(b.at[j]), cosine.at[j], sign * sine.at[j]);
    first.at[j] = static_cast<T>(Sum(first.at[j]) + turned.first);
    second.at[j] = static_cast<T>(Sum(second.at[j]) + turned.second);
  }
  StorePack<k>(to, i, half, aligned, first);
  StorePack<k>(to + half, i, half, aligned, second);
}

template <class T>
void Rotate(const Context& ctx, bool fresh, const Tensor& out, const Tensor& x, const Tensor& positions,
            const Tensor& table, Accumulator<T> sign) {
  constexpr int k = kPack<T>;
  const std::int64_t H = x.dim(1), half = x.dim(2) / 2, packs = x.dim(0) * H * Blocks(half, k);
  const bool all_whole =
      RowsAligned<k>(half, out.data<T>(), x.data<T>()) && RowsAligned<k>(half, table.data<Accumulator<T>>());
  WithWhole(all_whole, [&]<bool whole>() {
    Launch(ctx, {.blocks = Blocks(packs, kThreads), .early = true}, RotateKernel<whole, T>, packs, static_cast<int>(H),
           static_cast<int>(half), fresh, out, x, positions, table, sign);
  });
}

}  // namespace

template <>
void Kernels<Cuda>::RopeForward(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& positions,
                                const Tensor& table) {
  Dispatch(x.dtype(), [&]<class T>() { Rotate<T>(ctx, /*fresh=*/true, y, x, positions, table, 1); });
}

template <>
void Kernels<Cuda>::RopeBackward(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& positions,
                                 const Tensor& table) {
  Dispatch(dy.dtype(), [&]<class T>() { Rotate<T>(ctx, dx.fresh(), dx, dy, positions, table, -1); });
}

}  // namespace swarr
