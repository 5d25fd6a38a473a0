// SPDX-License-Identifier: Apache-2.0
// Finds the final answer within a text. Linear in its length; docs/verifier.md has the rules with examples.
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// How the answer is found in what follows the last "</think>" (an unclosed "<think>" hides what follows it):
//   1. the last \boxed{...} or \fbox{...}. It decides even if it is broken: unclosed, empty, and one box in another are
//      no answer. Boxes with nothing but "and", "or" or a comma between them are the elements of one set.
//   2. the rest of the line after the last "####".
//   3. lenient: the rest of the sentence after the last "answer is" or "answer:", whatever its case.
//   4. lenient: the last number (1,234.5, 1/2, -3, 50%), unless it is denied or part of a formula.
// Markdown around the answer goes: **5**, `5`, "5".
// kStrict is for rewards: the answer has to be marked. kLenient is for measuring models that are not told to mark it.
enum class Extraction { kStrict, kLenient };

struct ExtractedAnswer {
  bool found = false;
  std::string text{};
  std::string rule{};  // that found it: "boxed", "####", "answer is" or "last number"; or why there is none
};

constexpr const char* kNoMark = "no marked answer";  // the rule where there is neither box nor ####

ExtractedAnswer ExtractAnswer(std::string_view whole, Extraction mode);

// The text that is marked as the answer, by \boxed{} or "####"; empty if there is none. Worked solutions and
// completions are read by the same rule.
std::string MarkedAnswer(std::string_view text);

}  // namespace swarr
