// SPDX-License-Identifier: Apache-2.0
// Time and memory of a training step, for metrics.jsonl.
#pragma once

#include <chrono>

#include "tensor/memory.h"

namespace swarr {

class StepTimer {
 public:
  double Seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The most memory this process has held so far, in MB (10^6 bytes).
inline double PeakMemoryMb() { return static_cast<double>(PeakResidentBytes()) / 1e6; }

}  // namespace swarr
