// SPDX-License-Identifier: Apache-2.0
#include "study/looks.h"

#include <algorithm>
#include <map>

#include "base/check.h"

namespace swarr {

std::vector<ArmLook> ReadWays(const std::string& path, const nlohmann::ordered_json& json,
                              const std::vector<ArmPlan>& arms) {
  std::vector<ArmLook> looks;
  SWARR_CHECK(json.is_object(), path, ": ways is no object");
  for (const auto& [way, names] : json.items()) {
    const std::string where = Concat(path, ": ways['", way, "']");
    SWARR_CHECK(names.is_object(), where, " is ", names.dump(),
                "; it must be an object of names by arm: {\"sa_rl\": \"RL\"}");
    for (const auto& [arm, name] : names.items()) {
      SWARR_CHECK(std::ranges::find(arms, arm, &ArmPlan::name) != arms.end(), where, " has '", arm,
                  "', which is no arm");
      SWARR_CHECK(LookOf(looks, arm) == nullptr, where, " has the arm '", arm, "', which another way has too");
      SWARR_CHECK(name.is_string() && !name.get_ref<const std::string&>().empty(), where, ".", arm, " is ", name.dump(),
                  "; it must be a name");
      looks.push_back({arm, name, way});
    }
  }
  return looks;
}

nlohmann::ordered_json WithoutLooks(nlohmann::ordered_json settings) {
  settings.erase("ways");
  return settings;
}

const ArmLook* LookOf(const std::vector<ArmLook>& looks, const std::string& arm) {
  const auto found = std::ranges::find(looks, arm, &ArmLook::arm);
  return found == looks.end() ? nullptr : &*found;
}

std::string ArmName(const std::vector<ArmLook>& looks, const std::string& arm) {
  static const std::map<std::string, std::string> kArmNames = {{"sa_base", "SA, base"},
                                                               {"swa_converted", "SWA, converted"},
                                                               {"sa_sft", "SA, SFT"},
                                                               {"swa_sft", "SWA, SFT"},
                                                               {"swa_sft_more", "SWA, SFT with equal extra tokens"},
                                                               {"sa_rl", "SA, RL"},
                                                               {"swa_rl", "SWA, RL"},
                                                               {"sa", "SA"},
                                                               {"swa", "SWA"}};
  if (const ArmLook* look = LookOf(looks, arm)) return look->name;
  const auto found = kArmNames.find(arm);
  return found == kArmNames.end() ? arm : found->second;
}

std::vector<std::string> WaysOf(const std::vector<ArmLook>& looks) {
  std::vector<std::string> ways;
  for (const ArmLook& look : looks) {
    if (std::ranges::find(ways, look.way) == ways.end()) ways.push_back(look.way);
  }
  return ways;
}

}  // namespace swarr
