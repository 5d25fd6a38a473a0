// SPDX-License-Identifier: Apache-2.0
// Reading the components of tokenizer.json (normalizer, pre_tokenizer, model, post_processor, decoder).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace swarr {

// Whether a setting is absent or says no: null, false, the empty text.
bool IsOff(const nlohmann::json& object, const char* key);

// The name of a component: its type, or what stands there instead.
std::string NameOf(const nlohmann::json& component);

// "where: the pre_tokenizer Whitespace is not supported", as an Error. `role` is what the component is for.
[[noreturn]] void RefuseComponent(const std::string& where, const char* role, const nlohmann::json& component);

// The steps of a component: those of a Sequence (its array `key`), else the component alone; none if it is null.
// Throws on a Sequence of more than 16 steps; a Sequence within it is for the caller to refuse, as any other type.
std::vector<nlohmann::json> StepsOf(const std::string& where, const char* role, const nlohmann::json& component,
                                    const char* key);

}  // namespace swarr
