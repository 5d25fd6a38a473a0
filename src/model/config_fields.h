// SPDX-License-Identifier: Apache-2.0
// The fields of a config.json.
#pragma once

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"

namespace swarr {

// Checked access to the fields of a JSON object. Null counts as absent. Every error is a sentence that opens with
// `where` and names the field. Reading a field marks it as used; Unused() are the others.
class ConfigFields {
 public:
  // `json` must outlive this. Throws if it is no object.
  ConfigFields(const nlohmann::ordered_json& json, std::string where) : json_(json), where_(std::move(where)) {
    SWARR_CHECK(json.is_object(), where_, " holds no JSON object");
  }
  const std::string& where() const { return where_; }

  // The field's value, or nullptr where it is absent or null.
  const nlohmann::ordered_json* Find(const char* key) {
    used_.insert(key);
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  // Whether the field is there and null, where that differs from absence.
  bool IsNull(const char* key) { return Find(key) == nullptr && json_.contains(key); }

  // The value, or `fallback` where it is absent; T is int (from 0), double, bool or std::string. Throws if it is absent
  // without a fallback, or of another type.
  template <class T>
  T Get(const char* key, const std::optional<T>& fallback = std::nullopt) {
    const nlohmann::ordered_json* value = Find(key);
    SWARR_CHECK(value != nullptr || fallback, where_, ": the field ", key, " is missing");
    if (value == nullptr) return *fallback;
    const auto [fits, needed] = Fits<T>(*value);
    SWARR_CHECK(fits, where_, ": ", key, " is ", Excerpt(value->dump()), " where ", needed, " is needed");
    return value->get<T>();
  }

  nlohmann::ordered_json Unused() const {
    nlohmann::ordered_json unused = nlohmann::ordered_json::object();
    for (const auto& [key, value] : json_.items()) {
      if (!used_.contains(key)) unused[key] = value;
    }
    return unused;
  }

 private:
  // Whether `value` is a T, and what T needs.
  template <class T>
  static std::pair<bool, const char*> Fits(const nlohmann::ordered_json& value) {
    if constexpr (std::is_same_v<T, int>) {
      return {value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int>::max(),
              "an integer from 0 to 2147483647"};
    }
    if constexpr (std::is_same_v<T, double>) return {value.is_number(), "a number"};
    if constexpr (std::is_same_v<T, bool>) return {value.is_boolean(), "true or false"};
    if constexpr (std::is_same_v<T, std::string>) return {value.is_string(), "a string"};
  }

  const nlohmann::ordered_json& json_;
  std::string where_;
  std::set<std::string> used_;
};

}  // namespace swarr
