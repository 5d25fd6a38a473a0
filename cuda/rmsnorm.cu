// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/rmsnorm.cc. A warp takes a row; lane l takes the packs l, l + 32, ... of k elements, and a
// butterfly adds the lanes' partial sums. k depends on C and the dtype alone: 16 bytes, or 2 elements where that would
// leave lanes idle. The backward computes dx and dw in one pass; the blocks' parts of dw are added in the order of
// cuda/sums.h. Left out: keeping the row in registers between its two readings; the second one hits the L1 cache.
#include <tuple>

#include "cuda/norm_row.h"
#include "cuda/sums.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <int k, bool whole, class T>
__global__ void ForwardKernel(std::int64_t rows, std::int64_t C, T* y, Accumulator<T>* rstd, const T* x, const T* w,
                              Accumulator<T> eps) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  WaitForPrevious();
  if (n >= rows) return;
  const T* in = x + n * C;
  Sum squares = 0;
#pragma unroll 4
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

// In the backward a block takes kRowsPerBlock rows, of which each warp takes every kWarps-th. A lane keeps its sums of
// dw in registers, for kKept packs of columns: a range. Wider rows have several ranges, each a block's own
// (blockIdx.y).
constexpr int kKept = 4;
constexpr std::int64_t kRowsPerBlock = 8 * kWarps;
template <int k>
constexpr int kRange = kWarp* k* kKept;

// dx, and each block's part of dw: the sum over each warp's rows, ascending, then over the warps. Null: not wanted.
template <int k, bool whole, class T>
__global__ void __launch_bounds__(kThreads, 2)
    BackwardKernel(std::int64_t rows, std::int64_t C, bool fresh, T* dx, Accumulator<T>* dw_parts, const T* dy,
                   const T* x, const T* w, const Accumulator<T>* rstd) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  __shared__ Sum of_warp[kWarps][kRange<k>];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t begin = std::int64_t{blockIdx.y} * kRange<k>, end = min(rows, (blockIdx.x + 1) * kRowsPerBlock);
  Sum dw[kKept][k] = {};
  WaitForPrevious();
  for (std::int64_t n = blockIdx.x * kRowsPerBlock + warp; n < end; n += kWarps) {
    const T *in = x + n * C, *grad = dy + n * C;
    const Sum scale = rstd[n];
    Pack<T, k> out[kKept];  // loaded early: their memory takes as long as that of dy and x
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      out[i] = LoadGradient<k>(fresh || !dx, dx + n * C, begin + (i * kWarp + lane) * k, C, aligned);
    }
    Sum sum = 0;
#pragma unroll kKept
    for (std::int64_t c = lane * k; c < C; c += kWarp * k) {
      const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), weight = LoadPack<k>(w, c, C, aligned),
                       value = LoadPack<k>(in, c, C, aligned);
      for (int j = 0; j < k; ++j) sum += Sum(g.at[j]) * Sum(weight.at[j]) * Sum(value.at[j]);
    }
    const Sum mean = WarpSum(sum) * scale / static_cast<Sum>(C);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const std::int64_t c = begin + (i * kWarp + lane) * k;
      if (c >= C) break;
      const Pack<T, k> g = LoadPack<k>(grad, c, C, aligned), value = LoadPack<k>(in, c, C, aligned),
                       weight = LoadPack<k>(w, c, C, aligned);
      for (int j = 0; j < k; ++j) {
        const Sum d = NormedGradient(Sum(g.at[j]), Sum(weight.at[j]), Sum(value.at[j]), scale, mean);
        out[i].at[j] = static_cast<T>(Sum(out[i].at[j]) + d);
        dw[i][j] += NormWeightGradient(Sum(g.at[j]), Sum(value.at[j]), scale);
      }
      if (dx) StorePack<k>(dx + n * C, c, C, aligned, out[i]);
    }
  }
  if (!dw_parts) return;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
#pragma unroll
    for (int j = 0; j < k; ++j) of_warp[warp][(i * kWarp + lane) * k + j] = dw[i][j];
  }
  __syncthreads();
  for (std::int64_t c = threadIdx.x; c < min(std::int64_t{kRange<k>}, C - begin); c += kThreads) {
    Sum sum = of_warp[0][c];
    for (int i = 1; i < kWarps; ++i) sum += of_warp[i][c];
    dw_parts[blockIdx.x * C + begin + c] = sum;
  }
}

// Calls f.template operator()<k, whole>() with the size of the packs of rows of C elements, and whether all of them are
// whole in the rows of these tensors.
template <class F, class... T>
void WithPacks(std::int64_t C, F&& f, const T*... tensors) {
  using First = std::tuple_element_t<0, std::tuple<T...>>;
  const auto with = [&]<int k>() {
    WithWhole(RowsAligned<k>(C, tensors...), [&]<bool whole>() { f.template operator()<k, whole>(); });
  };
  WithNormPack<First>(C, with);
}

}  // namespace

template <>
void Kernels<Cuda>::RmsNormForward(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x,
                                   const Tensor& w, double eps) {
  const std::int64_t C = w.dim(0), rows = x.size() / C;
  Dispatch(x.dtype(), [&]<class T>() {
    const auto launch = [&]<int k, bool whole>() {
      Launch(ctx, {.blocks = Blocks(rows, kWarps), .early = true}, ForwardKernel<k, whole, T>, rows, C, y, rstd, x, w,
             static_cast<Accumulator<T>>(eps));
    };
    WithPacks(C, launch, y.data<T>(), x.data<T>(), w.data<T>());
  });
}

template <>
void Kernels<Cuda>::RmsNormBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dy,
                                    const Tensor& x, const Tensor& w, const Tensor& rstd) {
  const std::int64_t C = w.dim(0), rows = x.size() / C, blocks = Blocks(rows, kRowsPerBlock);
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ArenaScope scope(*ctx.arena);
    Sum* dw_parts = dw.empty() ? nullptr : ctx.arena->NewArray<Sum>(blocks * C);
    const auto launch = [&]<int k, bool whole>() {
      const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(Blocks(C, kRange<k>)));
      Launch(ctx, {.blocks = grid, .early = true}, BackwardKernel<k, whole, T>, rows, C, dx.fresh(), dx, dw_parts, dy,
             x, w, rstd);
    };
    WithPacks(C, launch, dy.data<T>(), x.data<T>(), w.data<T>(), dx.empty() ? nullptr : dx.data<T>());
    if (dw_parts) AddPartialSums(ctx, dw.data<Sum>(), blocks, C, dw_parts);
  });
}

}  // namespace swarr
