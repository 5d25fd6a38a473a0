// SPDX-License-Identifier: Apache-2.0
// Objectives as JSON, by the names that people use and by their switches: {"objective": "dapo", "beta": 0.01}.
// What each name stands for, and what other programs mean by it: docs/objectives.md.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "rl/objective.h"

namespace swarr {

// The names of NamedObjectives().
std::vector<std::string> ObjectiveNames();

// The objective called "objective" (grpo if there is none), with the switches given beside it changed:
//   baseline           none | group-mean | leave-one-out
//   scale_rewards      none | group | batch
//   whiten             true | false
//   ratio              none | token | sequence | sequence-mean
//   clip               none | ppo | weight
//   epsilon, epsilon_high    numbers; epsilon alone sets both where they are equal in the named objective
//   normalizer         token-mean | sequence-mean | constant | sequence-sum
//   kl                 k1 | k2 | k3
//   kl_in              loss | reward | return
//   beta, entropy_coef, overlong_share    numbers
//   dynamic_sampling   true | false
// max_completion_length is a number too, which no name sets. Throws UsageError for a name or a value that does not
// exist, listing those that do. CheckObjective says whether the switches fit each other.
ObjectiveOptions ObjectiveFromJson(const nlohmann::ordered_json& switches);

// All switches, without a name; ObjectiveFromJson reads the same objective from them.
nlohmann::ordered_json ToJson(const ObjectiveOptions& options);

}  // namespace swarr
