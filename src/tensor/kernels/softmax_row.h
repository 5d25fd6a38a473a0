// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The softmax over a row of logits. Training and sampling agree to the last bit because both call it.
#pragma once

#include <cmath>

#include "tensor/kernels/math.h"

namespace swarr {

template <class T>
struct SoftmaxRow {
  T lse;      // log sum_v exp(z[v]); the largest logit is subtracted first, so that nothing overflows
  T entropy;  // -sum_v p log p = lse - sum_v p z, p = exp(z - lse)
};

template <class T>
[[gnu::always_inline]] inline SoftmaxRow<T> SoftmaxOf(const T* z, std::int64_t V) {
  const T largest = Largest(z, V);
  const T sum = LaneSum<T>(V, [&](std::int64_t v) { return Exp(z[v] - largest); });
  const T weighted = LaneSum<T>(V, [&](std::int64_t v) { return Exp(z[v] - largest) * (z[v] - largest); });
  const T log_sum = std::log(sum);
  return {largest + log_sum, log_sum - weighted / sum};
}

}  // namespace swarr
