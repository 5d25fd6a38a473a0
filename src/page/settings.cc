// SPDX-License-Identifier: Apache-2.0
#include "page/settings.h"

#include <algorithm>
#include <set>

namespace swarr {

void Flatten(const nlohmann::ordered_json& value, const std::string& name, Settings& rows) {
  if (!value.is_object()) {
    using Handler = nlohmann::ordered_json::error_handler_t;
    rows.emplace_back(name,
                      value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Handler::replace));
    return;
  }
  for (const auto& [key, inner] : value.items()) Flatten(inner, name.empty() ? key : name + "." + key, rows);
}

const std::string* ValueOf(const Settings& settings, const std::string& name) {
  const auto found = std::ranges::find(settings, name, &Settings::value_type::first);
  return found == settings.end() ? nullptr : &found->second;
}

Comparison Compare(const std::vector<Settings>& all) {
  Comparison comparison;
  std::set<std::string> seen;
  for (const Settings& settings : all) {
    for (const auto& setting : settings) {
      if (!seen.insert(setting.first).second) continue;
      const bool same = std::ranges::all_of(all, [&](const Settings& other) {
        const std::string* value = ValueOf(other, setting.first);
        return value && *value == setting.second;
      });
      (same ? comparison.same : comparison.different).push_back(setting.first);
    }
  }
  return comparison;
}

}  // namespace swarr
