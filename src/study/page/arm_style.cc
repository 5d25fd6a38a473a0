// SPDX-License-Identifier: Apache-2.0
#include "study/page/arm_style.h"

#include <algorithm>
#include <array>

namespace swarr {
namespace {

// Of a way among all. Neither colour nor shape comes again before all pairs of them are used.
SeriesStyle StyleOfWay(std::size_t place) {
  using enum Marker;
  constexpr std::array kColours = {colour::kGreen, colour::kPurple, colour::kBlack};
  constexpr std::array kMarkers = {kDiamond, kTriangle, kSquare, kCircle};
  return {.colour = kColours[place % kColours.size()], .marker = kMarkers[place % kMarkers.size()]};
}

// `place`: of an arm among all, which decides on the looks of those that a user has named.
SeriesStyle StyleOf(const std::string& arm, std::size_t place) {
  using enum Marker;
  if (arm == "sa_rl" || arm == "sa") return {.colour = colour::kBlue, .marker = kCircle};
  if (arm == "sa_sft") return {.colour = colour::kBlue, .marker = kCircle, .filled = false};
  if (arm == "sa_base") return {.colour = colour::kGrey, .marker = kCircle, .filled = false};
  if (arm == "swa_rl" || arm == "swa") return {.colour = colour::kVermillion, .marker = kSquare};
  if (arm == "swa_sft") return {.colour = colour::kVermillion, .marker = kSquare, .filled = false};
  if (arm == "swa_sft_more") return {.colour = colour::kPurple, .marker = kTriangle, .filled = false};
  if (arm == "swa_converted") return {.colour = colour::kGrey, .marker = kDiamond, .filled = false};
  return StyleOfWay(place);
}

}  // namespace

SeriesStyle StyleIn(const StudyResults& results, const std::string& arm) {
  if (const ArmLook* look = LookOf(results.looks, arm)) {
    for (const char* known : {"sa_sft", "sa_rl", "swa_sft", "swa_rl"}) {
      if (ArmName({}, known) == look->way) return StyleOf(known, 0);
    }
    const std::vector<std::string> ways = WaysOf(results.looks);
    return StyleOfWay(static_cast<std::size_t>(std::ranges::find(ways, look->way) - ways.begin()));
  }
  const std::vector<std::string> arms = ArmsOf(results.runs);
  return StyleOf(arm, static_cast<std::size_t>(std::ranges::find(arms, arm) - arms.begin()));
}

}  // namespace swarr
