// SPDX-License-Identifier: Apache-2.0
#include "model/config_fields.h"

#include <limits>
#include <utility>

#include "tensor/check.h"

namespace swarr {

using nlohmann::ordered_json;

ConfigFields::ConfigFields(const ordered_json& json, std::string where) : json_(json), where_(std::move(where)) {
  SWARR_CHECK(json.is_object(), where_, " holds no JSON object");
}

const ordered_json* ConfigFields::Find(const char* key) {
  used_.insert(key);
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

int ConfigFields::Int(const char* key, std::optional<int> fallback) {
  const ordered_json* value = FindOr(key, fallback.has_value());
  if (value == nullptr) return *fallback;
  constexpr int kMax = std::numeric_limits<int>::max();
  SWARR_CHECK(value->is_number_integer() && *value >= 0 && *value <= kMax, where_, ": ", key, " is ", value->dump(),
              " where an integer from 0 to ", kMax, " is needed");
  return value->get<int>();
}

double ConfigFields::Double(const char* key, std::optional<double> fallback) {
  const ordered_json* value = FindOr(key, fallback.has_value());
  if (value == nullptr) return *fallback;
  SWARR_CHECK(value->is_number(), where_, ": ", key, " is ", value->dump(), " where a number is needed");
  return value->get<double>();
}

bool ConfigFields::Bool(const char* key, bool fallback) {
  const ordered_json* value = FindOr(key, true);
  if (value == nullptr) return fallback;
  SWARR_CHECK(value->is_boolean(), where_, ": ", key, " is ", value->dump(), " where true or false is needed");
  return value->get<bool>();
}

std::string ConfigFields::String(const char* key, std::optional<std::string> fallback) {
  const ordered_json* value = FindOr(key, fallback.has_value());
  if (value == nullptr) return *fallback;
  SWARR_CHECK(value->is_string(), where_, ": ", key, " is ", value->dump(), " where a string is needed");
  return value->get<std::string>();
}

ordered_json ConfigFields::Unused() const {
  ordered_json unused = ordered_json::object();
  for (const auto& [key, value] : json_.items()) {
    if (!used_.contains(key)) unused[key] = value;
  }
  return unused;
}

const ordered_json* ConfigFields::FindOr(const char* key, bool optional) {
  const ordered_json* value = Find(key);
  SWARR_CHECK(value != nullptr || optional, where_, ": the field ", key, " is missing");
  return value;
}

}  // namespace swarr
