// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
//
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

  [[gnu::always_inline]] explicit AdamWFactors(const AdamWUpdate& u)
      : beta1(static_cast<T>(u.options.beta1)),
        beta2(static_cast<T>(u.options.beta2)),
        correct1(static_cast<T>(1 / (1 - std::pow(u.options.beta1, static_cast<double>(u.t))))),
        correct2(static_cast<T>(1 / (1 - std::pow(u.options.beta2, static_cast<double>(u.t))))),
        scale(static_cast<T>(u.grad_scale)),
        rate(static_cast<T>(u.lr)),
        eps(static_cast<T>(u.options.eps)),
        decay(static_cast<T>(u.lr * u.options.weight_decay)) {}
};

}  // namespace swarr
