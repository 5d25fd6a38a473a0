// SPDX-License-Identifier: Apache-2.0
#include "model/config_fields.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "tensor/check.h"

namespace swarr {

using nlohmann::ordered_json;

namespace {

// What T needs where `value` is no T; null where it is one.
template <class T>
const char* NeededFor(const ordered_json& value) {
  if constexpr (std::is_same_v<T, int>) {
    const bool fits = value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int>::max();
    return fits ? nullptr : "an integer from 0 to 2147483647";
  } else if constexpr (std::is_same_v<T, double>) {
    return value.is_number() ? nullptr : "a number";
  } else if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean() ? nullptr : "true or false";
  } else {
    return value.is_string() ? nullptr : "a string";
  }
}

}  // namespace

ConfigFields::ConfigFields(const ordered_json& json, std::string where) : json_(json), where_(std::move(where)) {
  SWARR_CHECK(json.is_object(), where_, " holds no JSON object");
}

const ordered_json* ConfigFields::Find(const char* key) {
  used_.insert(key);
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigFields::IsNull(const char* key) { return Find(key) == nullptr && json_.contains(key); }

template <class T>
T ConfigFields::Get(const char* key, const std::optional<T>& fallback) {
  const ordered_json* value = Find(key);
  SWARR_CHECK(value != nullptr || fallback, where_, ": the field ", key, " is missing");
  if (value == nullptr) return *fallback;
  const char* needed = NeededFor<T>(*value);
  SWARR_CHECK(needed == nullptr, where_, ": ", key, " is ", value->dump(), " where ", needed, " is needed");
  return value->get<T>();
}
template int ConfigFields::Get(const char*, const std::optional<int>&);
template double ConfigFields::Get(const char*, const std::optional<double>&);
template bool ConfigFields::Get(const char*, const std::optional<bool>&);
template std::string ConfigFields::Get(const char*, const std::optional<std::string>&);

ordered_json ConfigFields::Unused() const {
  ordered_json unused = ordered_json::object();
  for (const auto& [key, value] : json_.items()) {
    if (!used_.contains(key)) unused[key] = value;
  }
  return unused;
}

}  // namespace swarr
