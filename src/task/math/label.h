// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "task/math/tokens.h"

namespace swarr {

constexpr std::string_view kRelations = R"(= \approx < > \le \ge \ne \in)";

// Splits "x = 5", "5 = x", "x = ... = 5" and "x \in [0,1)" into label and value. The left side has to be a name: a lone
// symbol, (p,q), AB, \angle ABC, P(A), f(3), "Area of ABC"; nothing at all is no label. Every other relation stays
// whole. Of "x = \pi \approx 3.14" the value is the exact one.
MathTokens TakeLabel(MathTokens tokens, std::string& label);

}  // namespace swarr
