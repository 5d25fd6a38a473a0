// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/elementwise.cc. A thread takes one pack of 16 bytes; in a cast it takes kCast elements, so
// that an access is of 8 to 32 bytes.
#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

constexpr int kCast = 4;

template <class T>
struct Plus {
  __device__ Accumulator<T> operator()(T a, T b) const { return Accumulator<T>(a) + Accumulator<T>(b); }
};

struct Same {
  template <class T>
  __device__ T operator()(T x) const {
    return x;
  }
};

template <class T>
struct GatedValue {
  __device__ Accumulator<T> operator()(T gate, T up) const { return Gated(Accumulator<T>(gate), Accumulator<T>(up)); }
};

// y: SwiGLU's result again, or null. It may be dy.
template <class T, class Aligned>
__device__ void BackwardOfPack(std::int64_t i, std::int64_t n, Aligned aligned, Gradient<T> dgate, Gradient<T> dup,
                               const T* dy, const T* gate, const T* up, T* y) {
  using Sum = Accumulator<T>;
  constexpr int k = kPack<T>;
  const Pack<T, k> grad = LoadPack<k>(dy, i, n, aligned), g = LoadPack<k>(gate, i, n, aligned),
                   u = LoadPack<k>(up, i, n, aligned);
  Pack<T, k> dg = LoadGradient<k>(dgate.fresh || !dgate.data, dgate.data, i, n, aligned),
             du = LoadGradient<k>(dup.fresh || !dup.data, dup.data, i, n, aligned), again;
  for (int j = 0; j < k; ++j) {
    const GatedGradient<Sum> d(Sum(grad.at[j]), Sum(g.at[j]), Sum(u.at[j]));
    dg.at[j] = static_cast<T>(Sum(dg.at[j]) + d.gate);
    du.at[j] = static_cast<T>(Sum(du.at[j]) + d.up);
    again.at[j] = static_cast<T>(Gated(Sum(g.at[j]), Sum(u.at[j])));
  }
  if (dgate.data) StorePack<k>(dgate.data, i, n, aligned, dg);
  if (dup.data) StorePack<k>(dup.data, i, n, aligned, du);
  if (y) StorePack<k>(y, i, n, aligned, again);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 6)
    BackwardKernel(std::int64_t n, bool aligned, Gradient<T> dgate, Gradient<T> dup, const T* dy, const T* gate,
                   const T* up, T* y) {
  constexpr int k = kPack<T>;
  const std::int64_t i = FirstOfThread<k>();
  WaitForPrevious();
  if (i >= n) return;
  if (aligned && i + k <= n) return BackwardOfPack(i, n, std::true_type{}, dgate, dup, dy, gate, up, y);
  BackwardOfPack(i, n, aligned, dgate, dup, dy, gate, up, y);
}

}  // namespace

template <>
void Kernels<Cuda>::AddForward(const Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  Dispatch(y.dtype(),
           [&]<class T>() { Map<kPack<T>>(ctx, y.size(), Plus<T>{}, y.data<T>(), a.data<T>(), b.data<T>()); });
}

template <>
void Kernels<Cuda>::CastForward(const Context& ctx, const Tensor& y, const Tensor& x) {
  Dispatch(x.dtype(), [&]<class From>() {
    Dispatch(y.dtype(), [&]<class To>() { Map<kCast>(ctx, x.size(), Same{}, y.data<To>(), x.data<From>()); });
  });
}

template <>
void Kernels<Cuda>::SwiGluForward(const Context& ctx, const Tensor& y, const Tensor& gate, const Tensor& up) {
  Dispatch(y.dtype(), [&]<class T>() {
    Map<kPack<T>>(ctx, y.size(), GatedValue<T>{}, y.data<T>(), gate.data<T>(), up.data<T>());
  });
}

template <>
void Kernels<Cuda>::SwiGluBackward(const Context& ctx, const Tensor& dgate, const Tensor& dup, const Tensor& dy,
                                   const Tensor& gate, const Tensor& up, const Tensor& y) {
  const std::int64_t n = dy.size();
  if (dgate.empty() && dup.empty() && y.empty()) return;
  Dispatch(dy.dtype(), [&]<class T>() {
    constexpr int k = kPack<T>;
    const Gradient<T> to_gate(dgate), to_up(dup);
    T* again = y.empty() ? nullptr : y.data<T>();
    const bool aligned = Aligned<k>(to_gate.data, to_up.data, dy.data<T>(), gate.data<T>(), up.data<T>(), again);
    Launch(ctx, PackShape<k>(n), BackwardKernel<T>, n, aligned, to_gate, to_up, dy, gate, up, again);
  });
}

}  // namespace swarr
