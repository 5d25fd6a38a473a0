// SPDX-License-Identifier: Apache-2.0
// Reads the fields of a study's file, so that a sentence names file and field where one is missing, unknown, of the
// wrong type or out of range.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace swarr {

// A field of an object, and where its value goes.
struct Field {
  template <class T>
  Field(std::string field, T& target) : name(std::move(field)), to(&target) {}
  std::string name;
  std::variant<bool*, int*, std::int64_t*, double*, std::string*, nlohmann::ordered_json*> to;
};

// Reads an object that must have the fields `needed`, may have those in `optional`, and has no other. `where` names it.
// Integers are from 0 on. Throws Error.
void ReadFields(const std::string& where, nlohmann::ordered_json object, const std::vector<Field>& needed,
                const std::vector<Field>& optional = {});

}  // namespace swarr
