// SPDX-License-Identifier: Apache-2.0
// Time and memory of a training step, for metrics.jsonl.
#pragma once

#include <sys/resource.h>

#include <chrono>

namespace swarr {

class StepTimer {
 public:
  double Seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The most memory this process has held so far, in MB (10^6 bytes).
inline double PeakMemoryMb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024.0 / 1e6;
}

}  // namespace swarr
