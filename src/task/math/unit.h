// SPDX-License-Identifier: Apache-2.0
// Units behind (or, for money, before) the number of an answer.
#pragma once

#include <optional>
#include <string>

#include "task/math/number.h"
#include "task/math/tokens.h"

namespace swarr {

// A number with what stands around it.
struct Quantity {
  Number value;
  bool percent = false;
  // "cm", "hour", "dollar": a measure that unit.cc knows, under its short name; with ^2 or ^3 if it is squared or
  // cubed. Empty for no unit and for words that are no measure, such as "apples": they do not count.
  std::string measure{};
};

// The quantity that `tokens` write out, or nothing. Words such as "million" multiply the number.
std::optional<Quantity> ParseQuantity(MathTokens tokens);

}  // namespace swarr
