// SPDX-License-Identifier: Apache-2.0
// Tokens by their brackets: what they enclose, and what stands outside of them.
#pragma once

#include <vector>

#include "task/math/tokens.h"

namespace swarr {

// Whether the first token is a bracket that the last one closes. Intervals may mix round and square brackets.
bool IsEnclosed(MathTokens tokens);

// Without the first and the last token.
inline MathTokens Inside(MathTokens tokens) { return tokens.subspan(1, tokens.size() - 2); }

// The parts between `separators` outside brackets; ", and" separates once.
std::vector<MathTokens> Split(MathTokens tokens, std::string_view separators);

// The separators themselves, in their order.
std::vector<std::string_view> SeparatorsIn(MathTokens tokens, std::string_view separators);

}  // namespace swarr
