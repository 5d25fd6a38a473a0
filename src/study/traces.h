// SPDX-License-Identifier: Apache-2.0
// Traces of an arm that its report shows in full: of the same problems for every arm, so that they can be compared.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "study/results.h"
#include "train/evaluate.h"

namespace swarr {

constexpr std::size_t kShownTraces = 3;

// Those of the sampled completions that are shown: of the first problems whose number of steps is nearest to the median
// of all. `outcomes` are theirs, in the same order.
std::vector<SampledTrace> TracesToShow(const Task& task, const std::vector<EvaluatedCompletion>& sampled,
                                       const std::vector<ProblemOutcome>& outcomes);

nlohmann::ordered_json TracesJson(const std::vector<SampledTrace>& traces);
std::vector<SampledTrace> TracesOf(const nlohmann::ordered_json& json);

}  // namespace swarr
