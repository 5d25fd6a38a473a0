// SPDX-License-Identifier: Apache-2.0
// The one softmax over a row of logits. Training and sampling both call it, which is why they agree to the last bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/math.h"

namespace swarr {

// log sum_v exp(z[v]), shifted by the largest logit so that nothing overflows; terms are added in ascending v.
template <class T>
T LogSumExp(const T* z, std::int64_t V) {
  const T largest = *std::max_element(z, z + V);
  T sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += Exp(z[v] - largest);
  return largest + std::log(sum);
}

// -sum_v p log p with p = exp(z - lse), which is lse - sum_v p z.
template <class T>
T SoftmaxEntropy(const T* z, std::int64_t V, T lse) {
  T mean = 0;
  for (std::int64_t v = 0; v < V; ++v) mean += Exp(z[v] - lse) * z[v];
  return lse - mean;
}

}  // namespace swarr
