// SPDX-License-Identifier: Apache-2.0
// What a sequence costs with and without the window, by its length.
#pragma once

#include <vector>

#include "model/config.h"
#include "study/results.h"
#include "tensor/context.h"

namespace swarr {

// Cache bytes of one sequence, the median time of decoding one more token, and the speed of a forward pass over the
// whole sequence, at several lengths up to 16,384, for a model of this shape with full attention ("sa") and with
// `windowed` in every layer ("swa"). None of it depends on the weights or on what the cache holds, so weights are
// random and nothing is prefilled. Takes about two seconds.
std::vector<CostPoint> MeasureCost(Context& ctx, const ModelConfig& shape, AttentionSpec windowed);

}  // namespace swarr
