// SPDX-License-Identifier: Apache-2.0
// The fields of a config.json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>

namespace swarr {

// Checked access to the fields of a JSON object. Null counts as absent. Every error is a sentence that opens with
// `where` and names the field. Reading a field marks it as used; Unused() are the others.
class ConfigFields {
 public:
  // `json` must outlive this. Throws if it is no object.
  ConfigFields(const nlohmann::ordered_json& json, std::string where);
  const std::string& where() const { return where_; }

  // The field's value, or nullptr where it is absent or null.
  const nlohmann::ordered_json* Find(const char* key);
  // Whether the field is there and null, where that differs from absence.
  bool IsNull(const char* key);

  // The value, or `fallback` where it is absent; T is int (from 0), double, bool or std::string. Throws if it is absent
  // without a fallback, or of another type.
  template <class T>
  T Get(const char* key, const std::optional<T>& fallback = std::nullopt);

  nlohmann::ordered_json Unused() const;

 private:
  const nlohmann::ordered_json& json_;
  std::string where_;
  std::set<std::string> used_;
};

}  // namespace swarr
