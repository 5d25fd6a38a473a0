// SPDX-License-Identifier: Apache-2.0
// Between the processor and the device of a context. On the processor nothing has to move: all of this is then what its
// plain reading says, done at once and without a copy. On a CUDA device, work is put into the context's stream, which
// does it in order, later: what has been moved to the host may be read, and what has been moved from there may be
// overwritten, after Wait.
#pragma once

#include "tensor/context.h"

namespace swarr {

// `host` in step memory of the device, and `t` in step memory of the host. An empty tensor stays empty.
Tensor ToDevice(const Context& ctx, const Tensor& host);
Tensor ToHost(const Context& ctx, const Tensor& t);

// Until the device has done all that it was given to do.
void Wait(const Context& ctx);

// On tensors of any memory that the device reaches.
void FillZero(const Context& ctx, const Tensor& t);
void Copy(const Context& ctx, const Tensor& to, const Tensor& from);  // same shape and dtype

// Step memory, and the stream that works on it. A context that has been given both must not outlive them.
class StepMemory {
 public:
  // Throws Error where this build or machine has no such device.
  explicit StepMemory(Device device = Device::kCpu);
  StepMemory(const StepMemory&) = delete;
  StepMemory& operator=(const StepMemory&) = delete;

  void GiveTo(Context& ctx);
  Arena& arena() { return arena_; }

 private:
  std::shared_ptr<CudaStream> stream_;  // null on the processor
  Arena arena_, host_;
};

// Gives all step memory back, at the start of a step. Waits: the device may still be at work on the step before, which
// reads and writes the host's part too. A step that has read its results has waited already.
void ResetStep(const Context& ctx);

// The same, at the end of a scope, for what was taken within it.
class StepScope {
 public:
  explicit StepScope(const Context& ctx);
  ~StepScope();
  StepScope(const StepScope&) = delete;
  StepScope& operator=(const StepScope&) = delete;

 private:
  const Context& ctx_;
  Arena::Mark arena_, host_;
};

// A tensor of any memory where the processor reaches it: the tensor itself, or a copy, made when the device has done
// all that it was given to do. For what is rare: initial values, files.
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
