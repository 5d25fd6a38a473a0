// SPDX-License-Identifier: Apache-2.0
// How a study shows its arms. Nothing that is measured depends on it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "study/arms.h"

namespace swarr {

// An arm's name in tables and figures. Arms of one way to train share colour and mark, and an entry of a legend.
struct ArmLook {
  std::string arm, name, way;
};

// The object `ways` of the file at `path`: by the way's name, an object with the name of each of its arms. Throws Error
// for an arm that is not among `arms` or is named twice.
std::vector<ArmLook> ReadWays(const std::string& path, const nlohmann::ordered_json& json,
                              const std::vector<ArmPlan>& arms);

// A study's file without them: what runs and samples depend on.
nlohmann::ordered_json WithoutLooks(nlohmann::ordered_json settings);

// The look of an arm; null if the file gives it none.
const ArmLook* LookOf(const std::vector<ArmLook>& looks, const std::string& arm);

// The name that the file gives; else "SWA, RL" for swa_rl and so on; else the arm's own.
std::string ArmName(const std::vector<ArmLook>& looks, const std::string& arm);

// The ways in the order in which they first appear.
std::vector<std::string> WaysOf(const std::vector<ArmLook>& looks);

}  // namespace swarr
