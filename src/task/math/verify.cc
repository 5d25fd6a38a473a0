// SPDX-License-Identifier: Apache-2.0
#include "task/math/verify.h"

#include <algorithm>

#include "task/math/words.h"
#include "tensor/check.h"

namespace swarr {
namespace {

using Kind = MathAnswer::Kind;
using Items = std::vector<MathAnswer>;

bool SameItem(const MathAnswer& gold, const MathAnswer& answer) { return CompareMathAnswers(gold, answer).correct; }

bool SameInOrder(const Items& gold, const Items& answer) {
  return std::equal(gold.begin(), gold.end(), answer.begin(), answer.end(), SameItem);
}

// As sets: how often an element comes does not count. Every pair is compared once, so nesting does not multiply the
// work.
bool SameWithoutOrder(const Items& gold, const Items& answer) {
  std::vector<bool> matched(answer.size(), false);
  for (const MathAnswer& g : gold) {
    bool found = false;
    for (std::size_t i = 0; i < answer.size(); ++i) {
      if (!SameItem(g, answer[i])) continue;
      found = true;
      matched[i] = true;
    }
    if (!found) return false;
  }
  return std::all_of(matched.begin(), matched.end(), [](bool m) { return m; });
}

bool Conflict(const std::string& a, const std::string& b) { return !a.empty() && !b.empty() && a != b; }

MathVerdict CompareNumbers(const MathAnswer& gold, const MathAnswer& answer) {
  if (!(gold.number == answer.number)) return {false, "different numbers"};
  if (Conflict(gold.measure, answer.measure)) return {false, "different units"};
  if (gold.percent && !answer.percent) return {false, "no percent sign"};
  return {true, "equal numbers"};
}

MathVerdict Judge(bool equal, const std::string& what) { return {equal, (equal ? "equal " : "different ") + what}; }

bool BracesBalance(std::string_view text) {
  int depth = 0;
  for (std::size_t i = 0; i < text.size() && depth >= 0; ++i) {
    if (text[i] == '\\')
      ++i;  // the brace behind it is a character
    else
      depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
  }
  return depth == 0;
}

}  // namespace

MathAnswer ParseMathGold(std::string_view gold) {
  const ExtractedAnswer marked = ExtractAnswer(gold, Extraction::kStrict);
  const bool has_mark = marked.found || marked.rule != "no marked answer";
  SWARR_CHECK(!has_mark || marked.found, "the gold answer can't be read: ", marked.rule);
  const std::string_view text = has_mark ? std::string_view(marked.text) : TrimSpace(gold);
  SWARR_CHECK(!text.empty(), "the gold answer is empty");
  SWARR_CHECK(text.size() <= kMaxAnswerBytes, "the gold answer has ", text.size(), " bytes, more than the ",
              kMaxAnswerBytes, " that are compared");
  SWARR_CHECK(BracesBalance(text), "the braces of the gold answer don't balance");
  MathAnswer answer = ParseMathAnswer(text);
  SWARR_CHECK(!answer.text.empty(), "the gold answer says nothing once spacing and delimiters are dropped");
  return answer;
}

MathVerdict CompareMathAnswers(const MathAnswer& gold, const MathAnswer& answer) {
  if (Conflict(gold.label, answer.label)) return {false, "different left sides"};
  if (gold.kind == Kind::kNumber && answer.kind == Kind::kNumber) return CompareNumbers(gold, answer);
  if (gold.text == answer.text) return {true, "equal text"};
  const bool set = gold.kind == Kind::kSet || answer.kind == Kind::kSet;
  const auto is_series = [](Kind kind) { return kind == Kind::kSet || kind == Kind::kList; };
  if (set && is_series(gold.kind) && is_series(answer.kind)) {
    return Judge(SameWithoutOrder(gold.items, answer.items), "sets");
  }
  if (gold.kind != answer.kind) return {false, "different kinds of answer"};
  switch (gold.kind) {
    case Kind::kTuple:
      if (gold.open != answer.open || gold.close != answer.close) return {false, "different brackets"};
      return Judge(SameInOrder(gold.items, answer.items), "tuples");
    case Kind::kList:
      return Judge(SameInOrder(gold.items, answer.items), "lists");
    case Kind::kMatrix:
      return Judge(gold.columns == answer.columns && SameInOrder(gold.items, answer.items), "matrices");
    case Kind::kText:
    case Kind::kNumber:
    case Kind::kSet:
      break;  // numbers and sets were compared above
  }
  return {false, "different text"};
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
