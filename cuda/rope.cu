// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rope.cc. A thread takes as many consecutive pairs (x[i], x[i + half]) of a head as fill an
// access of 16 bytes, in all heads of a row, which are turned by the same angles: kAtOnce heads, then the next. It
// loads their pairs before it stores them, so that y may be x.
#include <algorithm>

#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kAtOnce = 3;

// out (+)= x turned by `sign` times the angles of its position. threadIdx.x: the pack in a head; threadIdx.y: the row.
template <bool whole, class T>
__global__ void RotateKernel(std::int64_t N, int H, int half, bool fresh, T* out, const T* x,
                             const std::int32_t* positions, const Accumulator<T>* table, Accumulator<T> sign) {
  using Sum = Accumulator<T>;
  constexpr int k = kPack<T>;
  constexpr std::bool_constant<whole> aligned;
  const std::int64_t n = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y, i = threadIdx.x * k;
  WaitForPrevious();
  if (n >= N) return;
  const Sum* angles = table + positions[n] * std::int64_t{2 * half};
  const Pack<Sum, k> cosine = LoadPack<k>(angles, i, half, aligned);
  Pack<Sum, k> sine = LoadPack<k>(angles + half, i, half, aligned);
#pragma unroll
  for (int j = 0; j < k; ++j) sine.at[j] *= sign;
  for (int head = 0; head < H; head += kAtOnce) {
    Pack<T, k> a[kAtOnce], b[kAtOnce];
    const auto begin = [&](int j) { return (n * H + head + j) * 2 * half; };
    const auto size = [&](int j) { return head + j < H ? half : 0; };
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      a[j] = LoadPack<k>(x + begin(j), i, size(j), aligned);
      b[j] = LoadPack<k>(x + begin(j) + half, i, size(j), aligned);
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      T* to = out + begin(j);
      Pack<T, k> first = LoadGradient<k>(fresh, to, i, size(j), aligned),
                 second = LoadGradient<k>(fresh, to + half, i, size(j), aligned);
#pragma unroll
      for (int e = 0; e < k; ++e) {
        const TurnedPair<Sum> turned(Sum(a[j].at[e]), Sum(b[j].at[e]), cosine.at[e], sine.at[e]);
        first.at[e] = static_cast<T>(Sum(first.at[e]) + turned.first);
        second.at[e] = static_cast<T>(Sum(second.at[e]) + turned.second);
      }
      StorePack<k>(to, i, size(j), aligned, first);
      StorePack<k>(to + half, i, size(j), aligned, second);
    }
  }
}

template <class T>
void Rotate(const Context& ctx, bool fresh, const Tensor& out, const Tensor& x, const Tensor& positions,
            const Tensor& table, Accumulator<T> sign) {
  constexpr int k = kPack<T>;
  const std::int64_t N = x.dim(0), H = x.dim(1), half = x.dim(2) / 2;
  const auto packs = static_cast<unsigned>(Blocks(half, k)), rows = std::max(1U, kThreads / packs);
  const bool all_whole =
      RowsAligned<k>(half, out.data<T>(), x.data<T>()) && RowsAligned<k>(half, table.data<Accumulator<T>>());
  WithWhole(all_whole, [&]<bool whole>() {
    Launch(ctx, {.blocks = Blocks(N, rows), .threads = dim3(packs, rows), .early = true}, RotateKernel<whole, T>, N,
           static_cast<int>(H), static_cast<int>(half), fresh, out, x, positions, table, sign);
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
