// SPDX-License-Identifier: Apache-2.0
// What a step of RL records of its rollout: the completions file and a part of the metrics (rl/rl.h).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "rl/rollout.h"

namespace swarr {

// Writes dir/completions/step-*.jsonl for this step, 1 or more: the kept groups, then the dropped ones.
void WriteCompletions(const std::filesystem::path& dir, std::int64_t step, const Rollout& rollout,
                      const RlOptions& options);

// The metrics that follow from the rollout alone, over all that was sampled.
nlohmann::ordered_json MetricsOf(const Rollout& rollout, const RlOptions& options);

}  // namespace swarr
