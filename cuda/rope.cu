// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rope.cc. A block turns the heads of one row; a thread takes kPairs consecutive pairs
// (x[i], x[i + half]) of a head at a time, and loads all of them before it stores, so that y may be x.
#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kPairs = 4;
constexpr int kRotateThreads = 128;

// out (+)= x turned by `sign` times the angles of its position.
template <bool whole, class T>
__global__ void RotateKernel(std::int64_t H, std::int64_t half, bool fresh, T* out, const T* x,
                             const std::int32_t* positions, const Accumulator<T>* table, Accumulator<T> sign) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  const std::int64_t n = blockIdx.x;
  const Sum* angles = table + positions[n] * (2 * half);
  const int packs = static_cast<int>((half + kPairs - 1) / kPairs);  // of a head
  for (int item = static_cast<int>(threadIdx.x); item < H * packs; item += kRotateThreads) {
    const std::int64_t head = (n * H + item / packs) * 2 * half, i = item % packs * kPairs;
    const T* from = x + head;
    T* to = out + head;
    const Pack<T, kPairs> a = LoadPack<kPairs>(from, i, half, aligned),
                          b = LoadPack<kPairs>(from + half, i, half, aligned);
    const Pack<Sum, kPairs> cosine = LoadPack<kPairs>(angles, i, half, aligned),
                            sine = LoadPack<kPairs>(angles + half, i, half, aligned);
    Pack<T, kPairs> first = LoadGradient<kPairs>(fresh, to, i, half, aligned),
                    second = LoadGradient<kPairs>(fresh, to + half, i, half, aligned);
    for (int j = 0; j < kPairs; ++j) {
      const TurnedPair<Sum> turned(Sum(a.at[j]), Sum(b.at[j]), cosine.at[j], sign * sine.at[j]);
      first.at[j] = static_cast<T>(Sum(first.at[j]) + turned.first);
      second.at[j] = static_cast<T>(Sum(second.at[j]) + turned.second);
    }
    StorePack<kPairs>(to, i, half, aligned, first);
    StorePack<kPairs>(to + half, i, half, aligned, second);
  }
}

template <class T>
void Rotate(const Context& ctx, bool fresh, const Tensor& out, const Tensor& x, const Tensor& positions,
            const Tensor& table, Accumulator<T> sign) {
  using Sum = Accumulator<T>;
  const std::int64_t N = x.dim(0), H = x.dim(1), half = x.dim(2) / 2;
  WithWhole(RowsAligned<kPairs>(half, out.data<T>(), x.data<T>()) && RowsAligned<kPairs>(half, table.data<Sum>()),
            [&]<bool whole>() {
              Launch(ctx, {N, kRotateThreads}, RotateKernel<whole, T>, H, half, fresh, out, x, positions, table, sign);
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
