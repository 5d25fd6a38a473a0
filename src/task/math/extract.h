// SPDX-License-Identifier: Apache-2.0
// The final answer within a completion. Linear in its length; any text gives a result.
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// kStrict is for rewards: the answer has to be marked, by \boxed{} or "####". kLenient is for measuring models that
// were never told to mark it: it goes on to "answer is ..." and "answer: ...", and then to the last number.
enum class Extraction { kStrict, kLenient };

struct ExtractedAnswer {
  bool found = false;
  std::string text;
  // The rule that found it: "boxed", "####", "answer is" or "last number"; or why there is none.
  std::string rule;
};

// In this order, in what follows the last "</think>" (an unclosed "<think>" hides what follows it):
//   1. the last \boxed{...} or \fbox{...}. It decides even if it is broken: unclosed, empty, and one box in another are
//      no answer. Boxes with nothing but "and", "or" or a comma between them are the elements of one set.
//   2. the rest of the line after the last "####".
//   3. lenient: the rest of the sentence after the last "answer is" or "answer:", whatever its case.
//   4. lenient: the last number (1,234.5, 1/2, -3, 50%).
ExtractedAnswer ExtractAnswer(std::string_view completion, Extraction mode);

}  // namespace swarr
