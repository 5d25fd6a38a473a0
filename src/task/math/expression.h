// SPDX-License-Identifier: Apache-2.0
// Reads tokens as a number that has been worked out.
#pragma once

#include <optional>

#include "task/math/number.h"
#include "task/math/tokens.h"

namespace swarr {

// The number that `tokens` write out, or nothing if they write none. It has to be worked out: fractions, decimals,
// mixed numbers, scientific notation, roots, multiples of pi and i, and sums of unlike ones of these are numbers;
// 48+24, 37*43, 2^10 and sqrt(2)+sqrt(2) are tasks, and accepting them would reward restating the problem. Nesting is
// limited to 64.
std::optional<Number> ParseNumber(MathTokens tokens);

}  // namespace swarr
