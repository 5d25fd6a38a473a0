// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <cmath>

#include "tensor/kernels/formulas.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/lanes.h"
#include "tensor/kernels/rows.h"

namespace swarr {
namespace {

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
    ForElements(ctx, w.size(), [&](std::int64_t begin, std::int64_t end) {
      AdamWChunk(factors, end - begin, w.data<T>() + begin, m.data<T>() + begin, v.data<T>() + begin,
                 g.data<T>() + begin);
    });
  });
}

template <>
void Kernels<SWARR_SET>::SquaresOfChunks(const Context& ctx, const Tensor& sums, const Tensor& x) {
  double* to = sums.data<double>();
  DispatchSum(x.dtype(), [&]<class T>() {
    ForChunks<kNormChunk>(ctx, x.size(), 1, [&](std::int64_t begin, std::int64_t end) {
      const T* chunk = x.data<T>() + begin;
      to[begin / kNormChunk] = LaneSum<double>(
          end - begin, [&](std::int64_t i) { return static_cast<double>(chunk[i]) * static_cast<double>(chunk[i]); });
    });
  });
}

template <>
double Kernels<SWARR_SET>::RootOfSum(const Context&, const Tensor& sums) {
  double sum = 0;
  for (std::int64_t i = 0; i < sums.size(); ++i) sum += sums.data<double>()[i];
  return std::sqrt(sum);
}

}  // namespace swarr
