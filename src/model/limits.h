// SPDX-License-Identifier: Apache-2.0
// The largest sizes of a model that ModelConfig::Validate takes.
#pragma once

namespace swarr {

// Far above every real model. With these limits no product of sizes overflows an int64, and a lying file can't ask for
// all memory. A width is hidden, ffn, or that of all heads together.
constexpr int kMostLayers = 10'000, kMostWidth = 1 << 20, kMostIds = 1 << 24, kMostPositions = 1 << 22;

}  // namespace swarr
