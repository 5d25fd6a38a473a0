// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/adamw.cc. AdamWStep: element by element; a thread takes one pack of 16 bytes. GlobalNorm:
// a block sums a chunk of kNormChunk elements, of which thread t takes t, t + kThreads, ...; then one block sums the
// chunks in the same way.
#include <cmath>

#include "cuda/cuda.h"
#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"

namespace swarr {
namespace {

template <class T>
__global__ void StepKernel(AdamWFactors<T> f, std::int64_t n, bool aligned, T* w, T* m, T* v, const T* g) {
  constexpr int k = kPack<T>;
  const std::int64_t i = FirstOfThread<k>();
  WaitForPrevious();
  if (i >= n) return;
  Pack<T, k> weight = LoadPack<k>(w, i, n, aligned), first = LoadPack<k>(m, i, n, aligned),
             second = LoadPack<k>(v, i, n, aligned);
  const Pack<T, k> gradient = LoadPack<k>(g, i, n, aligned);
  for (int j = 0; j < k; ++j) f.Update(gradient.at[j], weight.at[j], first.at[j], second.at[j]);
  StorePack<k>(w, i, n, aligned, weight);
  StorePack<k>(m, i, n, aligned, first);
  StorePack<k>(v, i, n, aligned, second);
}

constexpr int kSumThreads = 1024;

// partial[chunk] = sum of squares of the block's chunk.
template <class T>
__global__ void SquaresKernel(std::int64_t n, const T* x, double* partial) {
  const std::int64_t begin = std::int64_t{blockIdx.x} * kNormChunk, end = min(n, begin + kNormChunk);
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  sum = BlockSum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kSumThreads) SumKernel(std::int64_t n, const double* x, double* to) {
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  sum = BlockSum(sum);
  if (threadIdx.x == 0) *to = sum;
}

}  // namespace

template <>
void Kernels<Cuda>::AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
                              const AdamWUpdate& update) {
  const std::int64_t n = w.size();
  DispatchSum(w.dtype(), [&]<class T>() {
    constexpr int k = kPack<T>;
    const AdamWFactors<T> factors(update);
    const bool aligned = Aligned<k>(w.data<T>(), m.data<T>(), v.data<T>(), g.data<T>());
    Launch(ctx, PackShape<k>(n), StepKernel<T>, factors, n, aligned, w, m, v, g);
  });
}

// The only kernel that waits for the device, because its result is the host's.
template <>
double Kernels<Cuda>::GlobalNorm(const Context& ctx, const Tensor& flat) {
  const std::int64_t n = flat.size(), chunks = Blocks(n, kNormChunk);
  ArenaScope scope(*ctx.arena);
  double* partial = ctx.arena->NewArray<double>(chunks + 1);  // the last one is for their sum
  DispatchSum(flat.dtype(), [&]<class T>() { Launch(ctx, {chunks}, SquaresKernel<T>, n, flat, partial); });
  Launch(ctx, {1, kSumThreads}, SumKernel, chunks, partial, partial + chunks);
  double sum = 0;
  EnqueueCopy(*ctx.stream, &sum, partial + chunks, sizeof sum);
  WaitFor(*ctx.stream);
  return std::sqrt(sum);
}

}  // namespace swarr
