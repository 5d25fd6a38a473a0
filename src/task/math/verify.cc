// SPDX-License-Identifier: Apache-2.0
#include "task/math/verify.h"

#include "base/check.h"
#include "task/math/markdown.h"

namespace swarr {
namespace {

bool BracesBalance(std::string_view text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size() && depth >= 0; ++i) {
    if (text[i] == '\\') {
      ++i;  // the brace behind it is a character
    } else {
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    }
  }
  return depth == 0;
}

}  // namespace

MathAnswer ParseMathGold(std::string_view gold) {
  const ExtractedAnswer marked = ExtractAnswer(gold, Extraction::kStrict);
  SWARR_CHECK(marked.found || marked.rule == kNoMark, "the gold answer can't be read: ", marked.rule);
  const std::string text = marked.found ? marked.text : WithoutMarkdown(gold);
  SWARR_CHECK(!text.empty(), "the gold answer is empty");
  SWARR_CHECK(text.size() <= kMaxAnswerBytes, "the gold answer has ", text.size(), " bytes, more than the ",
              kMaxAnswerBytes, " that are compared");
  SWARR_CHECK(BracesBalance(text), "the braces of the gold answer don't balance");
  MathAnswer answer = ParseMathAnswer(text);
  SWARR_CHECK(!answer.text.empty(), "the gold answer says nothing once spacing and delimiters are dropped");
  return answer;
}

MathVerdict VerifyMath(std::string_view gold, std::string_view completion, Extraction mode) {
  const MathAnswer right = ParseMathGold(gold);
  const ExtractedAnswer extracted = ExtractAnswer(completion, mode);
  if (!extracted.found) return {false, extracted.rule};
  if (extracted.text.size() > kMaxAnswerBytes) return {false, "an answer that is too long"};
  const MathAnswer answer = ParseMathAnswer(extracted.text);
  if (answer.text.empty()) return {false, "an empty answer"};
  MathVerdict verdict = CompareMathAnswers(right, answer);
  verdict.rule = extracted.rule + ": " + verdict.rule;
  return verdict;
}

std::string ExtractCanonicalAnswer(std::string_view completion, Extraction mode) {
  const ExtractedAnswer extracted = ExtractAnswer(completion, mode);
  const bool usable = extracted.found && extracted.text.size() <= kMaxAnswerBytes;
  return usable ? CanonicalText(ParseMathAnswer(extracted.text)) : "";
}

}  // namespace swarr
