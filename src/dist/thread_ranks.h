// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of one process: for tests, and wherever there is one device and the question is whether N
// ranks give the bits of one.
#pragma once

#include <functional>

#include "dist/communicator.h"

namespace swarr {

// Calls f once for each rank, every time in a thread of its own, and waits for all. If one throws, the others get
// RankLost at their next exchange; the first exception that was thrown is thrown here. Each rank has a context of its
// own.
void RunThreadRanks(int ranks, const std::function<void(Communicator&)>& f);

}  // namespace swarr
