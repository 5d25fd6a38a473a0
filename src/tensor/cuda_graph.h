// SPDX-License-Identifier: Apache-2.0
// Work of a stream that is recorded once and launched again and again as a whole, at a fraction of what launching its
// kernels one by one costs the processor.
#pragma once

#include <functional>
#include <memory>

#include "tensor/device.h"

namespace swarr {

class CudaGraph {
 public:
  // Records what `enqueue` puts into the stream; nothing of it is done. Neither allocate memory nor wait in `enqueue`.
  // The memory that it uses must still be there at every launch.
  CudaGraph(CudaStream& stream, const std::function<void()>& enqueue);
  void Launch(CudaStream& stream) const;

 private:
  std::shared_ptr<void> graph_;
};

}  // namespace swarr
