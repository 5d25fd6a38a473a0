// SPDX-License-Identifier: Apache-2.0
// Reads tokens as a number with what stands around it: a unit, a currency, a percent sign, "million".
#pragma once

#include <optional>
#include <string>

#include "task/math/number.h"
#include "task/math/tokens.h"

namespace swarr {

struct Quantity {
  Number value;
  bool percent = false;
  // "cm", "foot^2", "km/hour", "dollar": measures that quantity.cc knows, under their short names. Empty for no unit
  // and for units with a word that is no measure, such as "apples": they do not count.
  std::string measure{};
};

// The quantity that `tokens` write out, or nothing. Its unit stands behind the number, or, for money, before it. Words
// such as "million" multiply the number. What is a unit and what is not: docs/verifier.md.
std::optional<Quantity> ParseQuantity(MathTokens tokens);

// Whether two measures say different things. No measure at all is at odds with none, nor degrees with those of Celsius,
// ounces with fluid ones, or pounds with those that are money.
bool MeasuresConflict(const std::string& a, const std::string& b);

}  // namespace swarr
