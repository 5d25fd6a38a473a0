// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The arithmetic that MultiplyAddPeak measures, in the sets of tensor/kernels/kernels.h.
#pragma once

#include <cstdint>

namespace swarr {

template <class Set>
struct PeakKernel {
  // Multiplications and additions of one step.
  static std::int64_t FlopsPerStep();
  // `steps` times x = x * factor + term in as many independent vectors as hide the latency; returns a number that
  // depends on all of them.
  static float MultiplyAdd(std::int64_t steps, float factor, float term);
};

}  // namespace swarr
