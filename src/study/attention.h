// SPDX-License-Identifier: Apache-2.0
// What the layers of an arm attend to in one of its own traces, small enough for its record and its report.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attn/spec.h"

namespace swarr {

// Arms whose attention is kept, under the first seed of a study: full attention, and the window before and after RL.
inline constexpr std::array kMappedArms = {"sa_sft", "swa_sft", "swa_rl"};
// Weights below are left out.
constexpr int kLeastPercent = 5;

struct AttendedLayer {
  AttentionSpec spec{};  // of the trace: sinks are those of its prompt, where that is kept
  // Query, key and weight in per cent, a mean over the heads, in the order of the text.
  std::vector<std::array<int, 3>> cells{};
};

struct AttendedTrace {
  std::int64_t problem = 0;
  std::string prompt{}, completion{};
  int tokens = 0;  // of both, without end of text
  std::vector<AttendedLayer> layers{};
};

nlohmann::ordered_json AttendedJson(const AttendedTrace& trace);
AttendedTrace AttendedOf(const nlohmann::ordered_json& json);

}  // namespace swarr
