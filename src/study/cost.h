// SPDX-License-Identifier: Apache-2.0
// What decoding costs with and without the window, by length.
#pragma once

#include <vector>

#include "model/config.h"
#include "study/results.h"

namespace swarr {

// Cache bytes of one sequence and the median time of decoding one more token, at several lengths up to 16,384, for a
// model of this shape with full attention ("sa") and with `windowed` in every layer ("swa"). The time does not depend
// on the weights or on what the cache holds, so weights are random and nothing is prefilled.
std::vector<CostPoint> MeasureDecodeCost(const ModelConfig& shape, AttentionSpec windowed, int threads);

}  // namespace swarr
