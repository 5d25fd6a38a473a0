// SPDX-License-Identifier: Apache-2.0
// Settings as names and texts, of one thing or of several beside each other.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace swarr {

using Settings = std::vector<std::pair<std::string, std::string>>;

// Appends nested settings as rows "rl.learning_rate", "0.0001", and single values as `name`.
void Flatten(const nlohmann::ordered_json& value, const std::string& name, Settings& rows);

// The settings of several things: the names, in the order in which they first appear, of those that all have with one
// value, and of the others.
struct Comparison {
  std::vector<std::string> same{}, different{};
};
Comparison Compare(const std::vector<Settings>& all);

// Null if there is no such setting.
const std::string* ValueOf(const Settings& settings, const std::string& name);

}  // namespace swarr
