// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rmsnorm.cc. Forward and dx: a warp takes a row; lane l takes the packs l, l + 32, ... of k
// elements, and a butterfly adds the lanes' partial sums. k depends on C and the dtype alone: 16 bytes, or 2 elements
// where that would leave lanes idle. dw: a sum over rows in the order of cuda/sums.h. Left out: keeping the row in
// registers between its two readings; the second one hits the L1 cache.
#include "cuda/pack.h"
#include "cuda/sums.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <int k, class T>
__global__ void ForwardKernel(std::int64_t rows, std::int64_t C, bool aligned, T* y, Accumulator<T>* rstd, const T* x,
                              const T* w, Accumulator<T> eps) {
  using Sum = Accumulator<T>;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (n >= rows) return;
  const T* in = x + n * C;
  Sum squares = 0;
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    const Pack<T, k> value = LoadPack<k>(in, c, C, aligned);
    for (int j = 0; j < k; ++j) squares += Sum(value.at[j]) * Sum(value.at[j]);
  }
  const Sum r = InverseRms(WarpSum(squares), C, eps);
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    const Pack<T, k> value = LoadPack<k>(in, c, C, aligned), weight = LoadPack<k>(w, c, C, aligned);
    Pack<T, k> out;
    for (int j = 0; j < k; ++j) out.at[j] = static_cast<T>(Normed(Sum(value.at[j]), r, Sum(weight.at[j])));
    StorePack<k>(y + n * C, c, C, aligned, out);
  }
  if (lane == 0) rstd[n] = r;
}

template <int k, class T>
__global__ void BackwardKernel(std::int64_t rows, std::int64_t C, bool aligned, bool fresh, T* dx, const T* dy,
                               const T* x, const T* w, const Accumulator<T>* rstd) {
  using Sum = Accumulator<T>;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (n >= rows) return;
  const T *in = x + n * C, *grad = dy + n * C;
  Sum sum = 0;
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), weight = LoadPack<k>(w, c, C, aligned),
                     value = LoadPack<k>(in, c, C, aligned);
    for (int j = 0; j < k; ++j) sum += Sum(g.at[j]) * Sum(weight.at[j]) * Sum(value.at[j]);
  }
  const Sum scale = rstd[n], mean = WarpSum(sum) * scale / static_cast<Sum>(C);
  for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
    const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), weight = LoadPack<k>(w, c, C, aligned),
                     value = LoadPack<k>(in, c, C, aligned);
    Pack<T, k> out = LoadGradient<k>(fresh, dx + n * C, c, C, aligned);
    for (int j = 0; j < k; ++j) {
      const Sum d = NormedGradient(Sum(g.at[j]), Sum(weight.at[j]), Sum(value.at[j]), scale, mean);
      out.at[j] = static_cast<T>(Sum(out.at[j]) + d);
    }
    StorePack<k>(dx + n * C, c, C, aligned, out);
  }
}

// A row's part of dw.
template <class T>
struct NormTerm {
  const T *dy, *x;
  const Accumulator<T>* rstd;
  std::int64_t C;
  __device__ Accumulator<T> operator()(std::int64_t n, std::int64_t c) const {
    using Sum = Accumulator<T>;
    return NormWeightGradient(Sum(dy[n * C + c]), Sum(x[n * C + c]), rstd[n]);
  }
};

// Calls f.template operator()<k>() with the size of the packs of rows of C elements.
template <class T, class F>
void WithPackOf(std::int64_t C, F&& f) {
  if (C >= kWarp * kPack<T>) {
    f.template operator()<kPack<T>>();
  } else {
    f.template operator()<2>();
  }
}

}  // namespace

template <>
void Kernels<Cuda>::RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x,
                                   const Tensor& w, double eps) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    WithPackOf<T>(C, [&]<int k>() {
      const bool aligned = RowsAligned<k>(C, y.data<T>(), x.data<T>(), w.data<T>());
      Launch(ctx, {Blocks(rows, kWarps)}, ForwardKernel<k, T>, rows, C, aligned, y, rstd, x, w,
             static_cast<Accumulator<T>>(eps));
    });
  });
}

template <>
void Kernels<Cuda>::RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy,
                                    const Tensor& x, const Tensor& w, const Tensor& rstd) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    if (!dx.empty()) {
      WithPackOf<T>(C, [&]<int k>() {
        const bool aligned = RowsAligned<k>(C, dx.data<T>(), dy.data<T>(), x.data<T>(), w.data<T>());
        Launch(ctx, {Blocks(rows, kWarps)}, BackwardKernel<k, T>, rows, C, aligned, dx.fresh(), dx, dy, x, w, rstd);
      });
    }
    if (!dw.empty()) {
      AddColumnSums(ctx, dw.data<Sum>(), rows, C, NormTerm<T>{dy.data<T>(), x.data<T>(), rstd.data<Sum>(), C});
    }
  });
}

}  // namespace swarr
