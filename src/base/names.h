// SPDX-License-Identifier: Apache-2.0
// Names of the values of enums, as users write and read them. Each enum has one table, kNames<E>, which stands beside
// the enum: Name(value) prints from it and ParseName<E> reads by it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>

#include "base/check.h"

namespace swarr {

// The names of E's values, which count from 0, in their order. Specialised for every enum that has names.
template <class E>
inline constexpr std::array<const char*, 0> kNames = {};

template <class E>
concept HasNames = !kNames<E>.empty();

template <HasNames E>
std::string Name(E value) {
  const auto i = static_cast<std::size_t>(value);
  SWARR_CHECK(i < kNames<E>.size(), "a value of an enum has no name");
  return kNames<E>[i];
}

template <HasNames E>
std::optional<E> FindName(const std::string& name) {
  for (std::size_t i = 0; i < kNames<E>.size(); ++i) {
    if (name == kNames<E>[i]) return static_cast<E>(i);
  }
  return std::nullopt;
}

// "a, b or c", for sentences that say what to use.
template <class Names>
std::string Listed(const Names& names) {
  std::string list;
  for (std::size_t i = 0; i < names.size(); ++i) {
    list += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  return list;
}

// The value of this name. For an unknown name it throws UsageError: "unknown `what` 'name'; use a, b or c".
template <HasNames E>
E ParseName(const std::string& what, const std::string& name) {
  if (const std::optional<E> value = FindName<E>(name)) return *value;
  throw UsageError(Concat("unknown ", what, " '", name, "'; use ", Listed(kNames<E>)));
}

}  // namespace swarr
