// SPDX-License-Identifier: Apache-2.0
// Exponentials of several numbers of a thread at once, with the bits of Exp.
#pragma once

#include "tensor/kernels/math.h"

namespace swarr {

// x[i] = Exp(x[i]). A step of all, then the next step: one number after another, every step would wait for the one
// before it.
template <class T, int n>
__device__ inline void ExpOfAll(T (&x)[n]) {
  ExpSteps<T> steps[n];
#pragma unroll
  for (int i = 0; i < n; ++i) steps[i] = ExpSteps<T>(x[i]);
#pragma unroll
  for (int k = ExpSteps<T>::kDegree; k >= 1; --k) {
#pragma unroll
    for (ExpSteps<T>& s : steps) s.Take(k);
  }
#pragma unroll
  for (int i = 0; i < n; ++i) x[i] = steps[i].Result();
}

}  // namespace swarr
