// SPDX-License-Identifier: Apache-2.0
// A place in a CUDA stream's queue that the processor can wait for, while later work goes on. Defined in
// cuda/runtime.cu or, in a build without CUDA, in cuda/stub.cc, which throws Error.
#pragma once

#include <memory>

#include "tensor/device.h"

namespace swarr {

class CudaEvent {
 public:
  CudaEvent();
  // Marks the end of what is in the queue now.
  void Record(CudaStream& stream) const;
  // Waits until the device has come to the place that was marked last.
  void Wait() const;

 private:
  std::shared_ptr<void> event_;
};

}  // namespace swarr
