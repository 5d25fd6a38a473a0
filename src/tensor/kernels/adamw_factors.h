// SPDX-License-Identifier: Apache-2.0
// The constants of one AdamW step (ops.h) in the dtype of the weights, and the chunks of a norm: what the kernels of
// the processor and of CUDA share.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/ops.h"

namespace swarr {

constexpr std::int64_t kNormChunk = 4096;  // elements of each partial sum of GlobalNorm

template <class T>
struct AdamWFactors {
  T beta1, beta2, correct1, correct2, scale, rate, eps, decay;

  [[gnu::always_inline]] inline AdamWFactors(double lr, std::int64_t t, double grad_scale, const AdamWOptions& options)
      : beta1(static_cast<T>(options.beta1)),
        beta2(static_cast<T>(options.beta2)),
        correct1(static_cast<T>(1 / (1 - std::pow(options.beta1, static_cast<double>(t))))),
        correct2(static_cast<T>(1 / (1 - std::pow(options.beta2, static_cast<double>(t))))),
        scale(static_cast<T>(grad_scale)),
        rate(static_cast<T>(lr)),
        eps(static_cast<T>(options.eps)),
        decay(static_cast<T>(lr * options.weight_decay)) {}
};

}  // namespace swarr
