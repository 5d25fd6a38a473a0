// SPDX-License-Identifier: Apache-2.0
// Reading the components of tokenizer.json (normalizer, pre_tokenizer, model, post_processor, decoder).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"

namespace swarr {

// Whether a setting is absent or says no: null, false, 0 (a dropout of 0.0), the empty text.
inline bool IsOff(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  // NOLINTNEXTLINE(readability-container-size-empty): for an empty object, json's empty() says yes too
  return found == object.end() || found->is_null() || *found == false || *found == 0 || *found == "";
}

// The name of a component: its type, or what stands there instead.
inline std::string NameOf(const nlohmann::json& component) {
  const bool typed = component.is_object() && component.contains("type") && component["type"].is_string();
  return typed ? component["type"].get<std::string>() : Excerpt(component.dump());
}

// "where: the pre_tokenizer Whitespace is not supported", as an Error. `role` is what the component is for.
[[noreturn]] inline void RefuseComponent(const std::string& where, const char* role, const nlohmann::json& component) {
  throw Error(Concat(where, ": the ", role, " ", Excerpt(NameOf(component)), " is not supported"));
}

// The steps of a component: those of a Sequence (its array `key`), else the component alone; none if it is null.
// Throws on a Sequence of more than 16 steps; a Sequence within it is for the caller to refuse, as any other type.
inline std::vector<nlohmann::json> StepsOf(const std::string& where, const char* role, const nlohmann::json& component,
                                           const char* key) {
  constexpr std::size_t kMostSteps = 16;
  if (component.is_null()) return {};
  if (NameOf(component) != "Sequence") return {component};
  SWARR_CHECK(component.contains(key) && component[key].is_array(), where, ": the ", role, " Sequence lacks its ", key);
  SWARR_CHECK(component[key].size() <= kMostSteps, where, ": the ", role, " Sequence has more than ", kMostSteps,
              " steps");
  return component[key].get<std::vector<nlohmann::json>>();
}

}  // namespace swarr
