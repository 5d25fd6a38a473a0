// SPDX-License-Identifier: Apache-2.0
// Exchange between CUDA devices by NCCL (cuda/dist/nccl.cu). A build without it refuses (cuda/dist/no_nccl.cc).
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace swarr {

class DeviceExchange {
 public:
  virtual ~DeviceExchange() = default;
  virtual void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) = 0;
  // What exchanges took on the device, those that ended since this was asked last.
  virtual double TakeSeconds() = 0;
};

// For the ranks of a communicator, whose Gather carries NCCL's id. All ranks call it. Throws Error if this build has no
// NCCL, or if NCCL can't join the devices.
std::unique_ptr<DeviceExchange> MakeDeviceExchange(Communicator& ranks);

}  // namespace swarr
