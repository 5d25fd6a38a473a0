// SPDX-License-Identifier: Apache-2.0
// Objectives by the names that people use, and their switches as text: {"objective": "dapo", "beta": 0.01}.
// What each name stands for, and what other programs mean by it: docs/objectives.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rl/objective.h"

namespace swarr {

// reinforce, rloo, reinforce++, reinforce++-baseline, grpo, dr_grpo, dapo, gspo, cispo.
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
// max_completion_length is a number too, and not a matter of the objective's name. Throws UsageError for a name or a
// value that does not exist, listing those that do. Whether the switches fit each other is for CheckObjective to say.
ObjectiveOptions ObjectiveFromJson(const nlohmann::ordered_json& switches);

// All switches, without a name; ObjectiveFromJson gives the same again.
nlohmann::ordered_json ToJson(const ObjectiveOptions& options);

}  // namespace swarr
