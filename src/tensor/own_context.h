// SPDX-License-Identifier: Apache-2.0
// A context that needs nothing else: with step memory of its own, on the processor or a device, with the best kernels
// of this machine and a thread for every processor.
#pragma once

#include <sched.h>

#include <algorithm>
#include <thread>

#include "tensor/transfer.h"

namespace swarr {

// How many threads a number asks for: itself, or if it is 0 one for every processor that this process may use.
inline int ResolveThreads(int threads) {
  if (threads > 0) return threads;
  // A scheduler, a container or taskset may leave this process only some. Fails for more than 1024 processors.
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof processors, &processors) == 0) return CPU_COUNT(&processors);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

class OwnContext : public Context {
 public:
  // Throws Error if this build or machine has no such device.
  explicit OwnContext(Device device = Device::kCpu, int wanted_threads = 0) : memory_(device) {
    memory_.GiveTo(*this);
    threads = ResolveThreads(wanted_threads);
  }
  OwnContext(const OwnContext&) = delete;
  OwnContext& operator=(const OwnContext&) = delete;

 private:
  StepMemory memory_;
};

}  // namespace swarr
