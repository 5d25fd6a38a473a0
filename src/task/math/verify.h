// SPDX-License-Identifier: Apache-2.0
// Judges the final answer of a completion. Linear in the length of the completion; any text gives a
// result. docs/verifier.md has the rules with examples.
#pragma once

#include <string>
#include <string_view>

#include "task/math/answer.h"
#include "task/math/extract.h"

namespace swarr {

// The gold answer within `gold`: the text marked by \boxed{} or "####" if there is such a mark (a worked solution),
// else all of it. Throws Error, saying why, for a gold that nothing could be compared with: an empty one, one longer
// than kMaxAnswerBytes, one with unbalanced braces. Callers drop such problems and count them.
MathAnswer ParseMathGold(std::string_view gold);

// Judges a whole completion. The rule is "boxed: equal numbers" and the like, or says why there is no answer.
// Throws Error as ParseMathGold does; any completion is judged.
MathVerdict VerifyMath(std::string_view gold, std::string_view completion, Extraction mode);

// The extracted answer as CanonicalText spells it, empty if there is none. Equal answers give equal texts, except where
// only a second answer could tell that they are equal (units, labels, order).
std::string ExtractCanonicalAnswer(std::string_view completion, Extraction mode);

}  // namespace swarr
