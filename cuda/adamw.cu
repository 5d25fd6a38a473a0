// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/adamw.cc. AdamWStep: element by element; a thread takes one pack of 16 bytes. FusedAdamW:
// all parameters, with their rounding to bf16, instead of a launch for each run of parameters that decay alike.
// SquaresOfChunks: a block sums a chunk, of which thread t takes t, t + kThreads, ...; RootOfSum: one block sums the
// chunks in the same way.
#include <algorithm>
#include <cmath>

#include "cuda/cuda.h"
#include "cuda/pack.h"
#include "tensor/fused/adamw.h"
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

// Where the runs of a launch end, as many as an argument has room for. The first decays if `first_decays`, and then
// every second one.
struct Runs {
  static constexpr int kMost = 448;
  std::int64_t ends[kMost];
  int count;
  bool first_decays;

  // The run of an element; beyond the last end: the last run.
  __device__ int Of(std::int64_t i) const {
    int first = 0, last = count - 1;
    while (first < last) {
      const int middle = (first + last) / 2;
      if (i < ends[middle]) {
        last = middle;
      } else {
        first = middle + 1;
      }
    }
    return first;
  }
  __device__ bool Decays(int run) const { return (run % 2 == 0) == first_decays; }
};

// A step of elements begin to end, and their rounding. A block looks for the run of its first element.
__global__ void StepAndRoundKernel(AdamWFactors<float> f, std::int64_t begin, std::int64_t end, bool aligned,
                                   const __grid_constant__ Runs runs, float* w, BFloat16* values, float* m, float* v,
                                   const float* g) {
  constexpr int k = kPack<float>;
  const std::int64_t i = begin + FirstOfThread<k>();
  int run = runs.Of(begin + std::int64_t{blockIdx.x} * kThreads * k);
  WaitForPrevious();
  if (i >= end) return;
  Pack<float, k> weight = LoadPack<k>(w, i, end, aligned), first = LoadPack<k>(m, i, end, aligned),
                 second = LoadPack<k>(v, i, end, aligned);
  const Pack<float, k> gradient = LoadPack<k>(g, i, end, aligned);
  Pack<BFloat16, k> rounded;
  const float decay = f.decay;
  for (int j = 0; j < k; ++j) {
    while (run + 1 < runs.count && i + j >= runs.ends[run]) ++run;
    f.decay = runs.Decays(run) ? decay : 0.0f;
    f.Update(gradient.at[j], weight.at[j], first.at[j], second.at[j]);
    rounded.at[j] = BFloat16(weight.at[j]);
  }
  StorePack<k>(w, i, end, aligned, weight);
  StorePack<k>(m, i, end, aligned, first);
  StorePack<k>(v, i, end, aligned, second);
  StorePack<k>(values, i, end, aligned, rounded);
}

constexpr int kSumThreads = 1024;

// partial[block] = sum of squares of the block's chunk.
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

bool FusedAdamW(const Context& ctx, const FlatParameters& p, std::span<const DecayRun> runs,
                const AdamWUpdate& update) {
  if (!ctx.stream || p.values.dtype() != DType::kBF16) return false;
  constexpr int k = kPack<float>;
  float *w = p.master.data<float>(), *m = p.m.data<float>(), *v = p.v.data<float>(), *g = p.gradients.data<float>();
  std::int64_t begin = 0;
  for (std::size_t first = 0; first < runs.size(); first += Runs::kMost) {
    const auto of_launch = runs.subspan(first, std::min<std::size_t>(Runs::kMost, runs.size() - first));
    Runs ends{.ends = {}, .count = static_cast<int>(of_launch.size()), .first_decays = of_launch[0].decays};
    for (std::size_t i = 0; i < of_launch.size(); ++i) ends.ends[i] = of_launch[i].end;
    const std::int64_t end = of_launch.back().end;
    const bool aligned = begin % k == 0 && Aligned<k>(w, m, v, g) && Aligned<k>(p.values.data<BFloat16>());
    Launch(ctx, PackShape<k>(end - begin), StepAndRoundKernel, AdamWFactors<float>(update), begin, end, aligned, ends,
           p.master, p.values, p.m, p.v, p.gradients);
    begin = end;
  }
  return true;
}

template <>
void Kernels<Cuda>::SquaresOfChunks(const Context& ctx, const Tensor& sums, const Tensor& x) {
  DispatchSum(x.dtype(), [&]<class T>() { Launch(ctx, {sums.size()}, SquaresKernel<T>, x.size(), x, sums); });
}

// The only kernel that waits for the device, because its result is the host's.
template <>
double Kernels<Cuda>::RootOfSum(const Context& ctx, const Tensor& sums) {
  ArenaScope scope(*ctx.arena);
  double* total = ctx.arena->NewArray<double>(1);
  Launch(ctx, {1, kSumThreads}, SumKernel, sums.size(), sums, total);
  double sum = 0;
  EnqueueCopy(*ctx.stream, &sum, total, sizeof sum);
  WaitFor(*ctx.stream);
  return std::sqrt(sum);
}

}  // namespace swarr
