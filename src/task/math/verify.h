// SPDX-License-Identifier: Apache-2.0
// Finds the final answer within a completion and judges it. Linear in the length of the completion; any text gives a
// result. docs/verifier.md has the rules with examples.
#pragma once

#include <string>
#include <string_view>

#include "task/math/answer.h"

namespace swarr {

// How the answer is found in what follows the last "</think>" (an unclosed "<think>" hides what follows it):
//   1. the last \boxed{...} or \fbox{...}. It decides even if it is broken: unclosed, empty, and one box in another are
//      no answer. Boxes with nothing but "and", "or" or a comma between them are the elements of one set.
//   2. the rest of the line after the last "####".
//   3. lenient: the rest of the sentence after the last "answer is" or "answer:", whatever its case.
//   4. lenient: the last number (1,234.5, 1/2, -3, 50%).
// kStrict is for rewards: the answer has to be marked. kLenient is for measuring models that are not told to mark it.
enum class Extraction { kStrict, kLenient };

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
