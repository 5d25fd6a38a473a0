// SPDX-License-Identifier: Apache-2.0
// How much memory a CUDA device has left.
#pragma once

#include <cstdint>

namespace swarr {

// Bytes that are free on the first CUDA device. Defined beside what device.h declares; throws Error where there is
// none.
std::int64_t FreeCudaBytes();

}  // namespace swarr
