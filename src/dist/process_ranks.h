// SPDX-License-Identifier: Apache-2.0
// Ranks that are processes. Rank 0 listens at the meeting place and the others connect to it, so that texts go through
// it and everybody notices at once when somebody ends. Tensors of a CUDA device go from device to device by NCCL, those
// of the processor through the same connections: slower than one rank alone would be, and there to test everything
// else.
#pragma once

#include <functional>
#include <memory>

#include "dist/communicator.h"
#include "dist/launch.h"

namespace swarr {

struct ProcessRanksOptions {
  double patience_s = 60;  // how long ranks wait for one another at the start
  // Called, from a thread of its own, with a sentence when another rank has ended: this one may be waiting for its
  // device for ever, so the process is to end. Not called during or after the destructor.
  std::function<void(const std::string&)> on_lost{};
};

// Meets the other ranks. Throws Error if one does not come, or if two say they are the same.
std::unique_ptr<Communicator> MeetRanks(const Launch& launch, const ProcessRanksOptions& options);

}  // namespace swarr
