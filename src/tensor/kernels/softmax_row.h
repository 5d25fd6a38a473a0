// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The softmax over a row of logits. Training and sampling agree to the last bit because both call it.
#pragma once

#include <cmath>

#include "tensor/kernels/math.h"
#ifndef __CUDACC__
#include "tensor/kernels/lanes.h"
#endif

namespace swarr {

template <class T>
struct SoftmaxRow {
  T lse;      // log sum_v exp(z[v]); the largest logit is subtracted first, so that nothing overflows
  T entropy;  // -sum_v p log p = lse - sum_v p z, p = exp(z - lse)
};

#ifndef __CUDACC__  // a device has its own, in cuda/softmax_row.h
template <class T>
[[gnu::always_inline]] inline SoftmaxRow<T> SoftmaxOf(const T* z, std::int64_t V) {
  constexpr int kLanes = RowLanes<T>::kCount;
  const T largest = Largest(z, V);
  RowLanes<T> sums = {}, weighted_sums = {};  // of exp(z - largest), and of the same times z - largest, as by LaneSum
  const auto add = [&](std::int64_t v, int lane) __attribute__((always_inline)) {
    const T below = z[v] - largest, weight = Exp(below);
    sums.lane[lane] += weight;
    weighted_sums.lane[lane] += weight * below;
  };
  std::int64_t v = 0;
  for (; v + kLanes <= V; v += kLanes) {
    for (int j = 0; j < kLanes; ++j) add(v + j, j);
  }
  for (int j = 0; v + j < V; ++j) add(v + j, j);
  const T sum = sums.Sum(), weighted = weighted_sums.Sum(), log_sum = std::log(sum);
  return {largest + log_sum, log_sum - weighted / sum};
}
#endif

}  // namespace swarr
