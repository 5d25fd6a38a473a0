// SPDX-License-Identifier: Apache-2.0
// AdamW over all parameters, with their rounding to bf16, in one launch on a CUDA device (cuda/adamw.cu).
#pragma once

#include <span>

#include "tensor/ops.h"

namespace swarr {

// Parameters one after another; `values` are `master` rounded.
struct FlatParameters {
  Tensor master, values, m, v, gradients;
};
// Elements up to `end` from the end of the run before.
struct DecayRun {
  std::int64_t end;
  bool decays;  // else their weight decay is 0
};

// AdamWStep for each run, then CastForward of all. Returns false where it has done nothing.
bool FusedAdamW(const Context& ctx, const FlatParameters& parameters, std::span<const DecayRun> runs,
                const AdamWUpdate& update);

}  // namespace swarr
