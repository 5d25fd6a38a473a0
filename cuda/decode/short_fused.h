// SPDX-License-Identifier: Apache-2.0
// FusedGated and FusedQkv (model/fused.h) in f32, for models that products of short k suit (short_fused.cu).
#pragma once

#include "model/fused.h"

namespace swarr {

Tensor ShortGated(const Context& ctx, const NormedRows& in, const Tensor& gate, const Tensor& up);
Tensor ShortQkv(const Context& ctx, const KeyCache& cache, std::int64_t D, const NormedRows& in,
                const QkvWeights& weights, const QkvRows& rows);

}  // namespace swarr
