// SPDX-License-Identifier: Apache-2.0
// Objectives as JSON, by the names that people use and by their switches: {"objective": "dapo", "beta": 0.01}.
// What each name stands for, and what other programs mean by it: docs/objectives.md.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "rl/objective.h"

namespace swarr {

// The objective called "objective" (grpo if there is none), with the switches given beside it changed:
//   baseline, scale_rewards, ratio, clip, normalizer, kl, kl_in     names from the tables in objective.h
//   whiten, dynamic_sampling                                        true | false
//   reward_weight, epsilon, epsilon_high, beta, entropy_coef, overlong_share    numbers
// epsilon alone sets both sides of the clip where they are equal in the named objective. max_completion_length is a
// number too, which no name sets. Throws UsageError for a name or a value that does not exist, listing those that do.
// CheckObjective says whether the switches fit each other.
ObjectiveOptions ObjectiveFromJson(const nlohmann::ordered_json& switches);

// All switches, without a name; ObjectiveFromJson reads the same objective from them.
nlohmann::ordered_json ToJson(const ObjectiveOptions& options);

}  // namespace swarr
