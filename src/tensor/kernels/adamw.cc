// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <algorithm>
#include <cmath>

#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/rows.h"

namespace swarr {
namespace {

constexpr std::int64_t kChunk = kNormChunk;  // elements one thread takes at a time

std::int64_t Chunks(std::int64_t n) { return (n + kChunk - 1) / kChunk; }

template <class T>
void AdamWChunk(const AdamWFactors<T>& by_step, std::int64_t n, T* weight, T* first, T* second, const T* gradient) {
  const AdamWFactors<T> f = by_step;  // a copy, which no store can change
#pragma GCC ivdep
  for (std::int64_t i = 0; i < n; ++i) {
    T w = weight[i], m = first[i], v = second[i];
    f.Update(gradient[i], w, m, v);
    weight[i] = w, first[i] = m, second[i] = v;
  }
}

}  // namespace

template <>
void Kernels<SWARR_SET>::AdamWStep(const Context& ctx, const Tensor& w, const Tensor& m, const Tensor& v,
                                   const Tensor& g, const AdamWUpdate& update) {
  DispatchSum(w.dtype(), [&]<class T>() {
    const AdamWFactors<T> factors(update);
    ForRows(ctx, Chunks(w.size()), kChunk, [&](std::int64_t chunk) {
      const std::int64_t begin = chunk * kChunk, n = std::min(w.size() - begin, kChunk);
      AdamWChunk(factors, n, w.data<T>() + begin, m.data<T>() + begin, v.data<T>() + begin, g.data<T>() + begin);
    });
  });
}

template <>
double Kernels<SWARR_SET>::GlobalNorm(const Context& ctx, const Tensor& flat) {
  ArenaScope scope(*ctx.arena);
  const std::int64_t chunks = Chunks(flat.size());
  double* partial = ctx.arena->NewArray<double>(chunks);
  DispatchSum(flat.dtype(), [&]<class T>() {
    ForRows(ctx, chunks, kChunk, [&](std::int64_t chunk) {
      const std::int64_t end = std::min(flat.size(), (chunk + 1) * kChunk);
      const T* x = flat.data<T>() + chunk * kChunk;
      partial[chunk] = LaneSum<double>(
          end - chunk * kChunk, [&](std::int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
    });
  });
  double sum = 0;
  for (std::int64_t i = 0; i < chunks; ++i) sum += partial[i];
  return std::sqrt(sum);
}

}  // namespace swarr
