// SPDX-License-Identifier: Apache-2.0
#include "text/component.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"

namespace swarr {

using nlohmann::json;

bool IsOff(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null() || *found == false) return true;
  return found->is_string() && found->get_ref<const std::string&>().empty();
}

std::string NameOf(const json& component) {
  const bool typed = component.is_object() && component.contains("type") && component["type"].is_string();
  return typed ? component["type"].get<std::string>() : component.dump();
}

void RefuseComponent(const std::string& where, const char* role, const json& component) {
  throw Error(Concat(where, ": the ", role, " ", NameOf(component), " is not supported"));
}

std::vector<json> StepsOf(const std::string& where, const char* role, const json& component, const char* key) {
  constexpr std::size_t kMostSteps = 16;
  if (component.is_null()) return {};
  if (NameOf(component) != "Sequence") return {component};
  SWARR_CHECK(component.contains(key) && component[key].is_array(), where, ": the ", role, " Sequence lacks its ", key);
  SWARR_CHECK(component[key].size() <= kMostSteps, where, ": the ", role, " Sequence has more than ", kMostSteps,
              " steps");
  return component[key].get<std::vector<json>>();
}

}  // namespace swarr
