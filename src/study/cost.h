// SPDX-License-Identifier: Apache-2.0
// What a sequence costs with and without the window, by its length.
#pragma once

#include <vector>

#include "model/config.h"
#include "study/results.h"
#include "tensor/context.h"

namespace swarr {

// Measures, at several lengths up to 16,384, the cache bytes of one sequence, the median time of decoding one more
// token, and the speed of a forward pass over the whole sequence. The model has this shape, once with full attention
// ("sa") and once with `windowed` in every layer ("swa"). Nothing depends on the weights or on what the cache holds, so
// weights are random and nothing is prefilled. Takes about two seconds.
std::vector<CostPoint> MeasureCost(Context& ctx, const ModelConfig& shape, AttentionSpec windowed);

}  // namespace swarr
