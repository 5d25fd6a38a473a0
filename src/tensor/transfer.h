// SPDX-License-Identifier: Apache-2.0
// Moves data between the processor and the device of a context. On the processor nothing has to move: each function
// does its work at once, without a copy. On a CUDA device it puts the work into the context's stream, which does it
// later, in order. So wait (Wait) before you read what was moved to the host, and before you overwrite what was moved
// from there. Contexts with step memory are made here too.
#pragma once

#include <sched.h>

#include <algorithm>
#include <thread>

#include "tensor/context.h"

namespace swarr {

// Copies of `host` in step memory of the device, and of `t` in step memory of the host. An empty tensor stays empty.
Tensor ToDevice(const Context& ctx, const Tensor& host);
Tensor ToHost(const Context& ctx, const Tensor& t);

// Waits until the device has done all its work.
void Wait(const Context& ctx);

// For tensors in any memory that the device reaches.
void FillZero(const Context& ctx, const Tensor& t);
void Copy(const Context& ctx, const Tensor& to, const Tensor& from);  // same shape and dtype

// Step memory and the stream that works on it. A context that uses them (GiveTo) must not outlive them.
class StepMemory {
 public:
  // Throws Error if this build or machine has no such device.
  explicit StepMemory(Device device = Device::kCpu);
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  void GiveTo(Context& ctx);
  Arena& arena() { return arena_; }

 private:
  std::shared_ptr<CudaStream> stream_;  // null on the processor
  Arena arena_, host_;
};

// How many threads a number asks for: itself, or if it is 0 one for every processor that this process may use.
inline int ResolveThreads(int threads) {
  if (threads > 0) return threads;
  // A scheduler, a container or taskset may leave this process only some. Fails for more than 1024 processors.
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof processors, &processors) == 0) return CPU_COUNT(&processors);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

// A context that needs nothing else: with step memory of its own, on the processor or a device, with the best kernels
// of this machine and a thread for every processor unless told otherwise.
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

// Gives all step memory back, at the start of a step. It waits first: the device may still be at work on the step
// before and read or write the host's part of the memory.
void ResetStep(const Context& ctx);

// Gives back at the end of a scope the step memory that was taken within it. It waits first, like ResetStep.
class StepScope {
 public:
  explicit StepScope(const Context& ctx) : ctx_(ctx), arena_(*ctx.arena), host_(ctx.HostArena()) {}
  ~StepScope();

 private:
  const Context& ctx_;
  ArenaScope arena_, host_;
};

// A tensor of any memory, where the processor reaches it: the tensor itself, or a copy of what a device holds when it
// has done all its work. For rare uses, such as initial values and files.
class HostView {
 public:
  HostView(const Tensor& t, MemoryKind kind);
  const Tensor& view() const { return view_; }
  // Makes the tensor equal to the view.
  void WriteBack() const;

 private:
  Tensor original_, view_;
  OwnedTensor copy_;
};

}  // namespace swarr
