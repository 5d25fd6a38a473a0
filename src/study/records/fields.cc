// SPDX-License-Identifier: Apache-2.0
#include "study/records/fields.h"

#include <limits>
#include <type_traits>

#include "base/check.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// `where` names the field. The library would cut a number that the type does not hold.
template <class T>
void ReadValue(const std::string& where, const ordered_json& json, T& to) {
  if constexpr (std::is_same_v<T, int> || std::is_same_v<T, std::int64_t>) {
    const bool fits =
        !json.is_number() || (json.is_number_integer() && json >= 0 && json <= std::numeric_limits<T>::max());
    SWARR_CHECK(fits, where, " is ", json.dump(), " where a whole number from 0 to ", std::numeric_limits<T>::max(),
                " is needed");
  }
  try {
    json.get_to(to);
  } catch (const ordered_json::exception&) {
    throw Error(Concat(where, " is ", json.dump(), ", which has the wrong type"));
  }
}

// Reads the field and takes it out; returns whether the object had it.
bool Take(const std::string& where, ordered_json& object, const Field& field) {
  const auto found = object.find(field.name);
  if (found == object.end()) return false;
  std::visit([&](auto* to) { ReadValue(Concat(where, ".", field.name), *found, *to); }, field.to);
  object.erase(found);
  return true;
}

}  // namespace

void ReadFields(const std::string& where, ordered_json object, const std::vector<Field>& needed,
                const std::vector<Field>& optional) {
  SWARR_CHECK(object.is_object(), where, " is no object");
  for (const Field& field : needed) {
    SWARR_CHECK(Take(where, object, field), where, " has no field '", field.name, "'");
  }
  for (const Field& field : optional) Take(where, object, field);
  SWARR_CHECK(object.empty(), where, " has an unknown field '", object.begin().key(), "'");
}

}  // namespace swarr
