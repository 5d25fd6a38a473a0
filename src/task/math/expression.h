// SPDX-License-Identifier: Apache-2.0
// Reads tokens as a number that has been worked out, alone or with a unit.
#pragma once

#include <optional>
#include <string>

#include "task/math/number.h"
#include "task/math/tokens.h"

namespace swarr {

// The number that `tokens` write out, or nothing if they write none. It has to be worked out: fractions, decimals,
// mixed numbers, scientific notation, roots, multiples of pi and i, and sums of unlike ones of these are numbers;
// 48+24, 37*43, 2^10 and sqrt(2)+sqrt(2) are tasks, and accepting them would reward restating the problem. Nesting is
// limited to 64.
std::optional<Number> ParseNumber(MathTokens tokens);

// A number with what stands around it.
struct Quantity {
  Number value;
  bool percent = false;
  // "cm", "hour", "dollar": a measure that expression.cc knows, under its short name; with ^2 or ^3 if it is squared or
  // cubed. Empty for no unit and for words that are no measure, such as "apples": they do not count.
  std::string measure{};
};

// The quantity that `tokens` write out, or nothing. Its unit stands behind the number, or, for money, before it. Words
// such as "million" multiply the number.
std::optional<Quantity> ParseQuantity(MathTokens tokens);

}  // namespace swarr
