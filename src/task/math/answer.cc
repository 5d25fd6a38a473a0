// SPDX-License-Identifier: Apache-2.0
#include "task/math/answer.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "task/math/brackets.h"
#include "task/math/expression.h"
#include "task/math/label.h"
#include "task/math/tokens.h"
#include "task/math/words.h"

namespace swarr {
namespace {

using Kind = MathAnswer::Kind;

constexpr int kMaxDepth = 32;
constexpr std::string_view kSeparators = ", ; and or";

// Drops full stops, commas and line breaks at the end, but not an ellipsis, and a leading plus sign.
MathTokens Trim(MathTokens tokens) {
  const auto ends = [&] {
    const bool stop = tokens.back().Is(".") || tokens.back().Is(",");
    return (stop && !tokens[tokens.size() - 2].Is(".")) || tokens.back().Is("\\\\");
  };
  while (tokens.size() > 1 && ends()) tokens = tokens.first(tokens.size() - 1);
  if (tokens.size() > 1 && tokens[0].Is("+")) tokens = tokens.subspan(1);
  return tokens;
}

bool IsMatrix(MathTokens tokens) {
  return tokens.size() >= 3 && tokens.front().Is("\\begin{pmatrix}") && tokens.back().Is("\\end{pmatrix}");
}

// Drops parentheses and braces around a single element, and brackets around a matrix.
MathTokens Unwrap(MathTokens tokens) {
  for (int i = 0; i < kMaxDepth && IsEnclosed(tokens); ++i) {
    const bool round = tokens[0].Is("(") && tokens.back().Is(")");
    const bool square = tokens[0].Is("[") && tokens.back().Is("]");
    const MathTokens inside = Inside(tokens);
    const bool alone = !inside.empty() && Split(inside, kSeparators).size() == 1;
    if (!alone || !(round || tokens[0].Is("{") || (square && IsMatrix(inside)))) break;
    tokens = inside;
  }
  return tokens;
}

// Words alone are compared without regard to case.
std::string Spelling(MathTokens tokens) {
  const std::string text = JoinTokens(tokens);
  const bool words = std::ranges::all_of(tokens, [](const MathToken& t) { return t.kind == MathToken::Kind::kWord; });
  const std::string spelling = words && text.size() > 1 ? LowerCase(text) : text;
  return std::string(MeaningOf(spelling, R"(\emptyset \{\} emptyset)", spelling));
}

bool HasEmpty(const std::vector<MathTokens>& parts) {
  return std::ranges::any_of(parts, [](MathTokens part) { return part.empty(); });
}

MathAnswer Read(MathTokens tokens, int depth);

// Each function below reads `tokens` into `answer` and returns true if they have its form. Where the form is broken it
// returns true too, and the answer stays text.

bool ReadMatrix(MathTokens tokens, int depth, MathAnswer& answer) {
  if (!IsMatrix(tokens)) return false;
  std::vector<MathTokens> rows = Split(Inside(tokens), "\\\\");
  if (rows.back().empty()) rows.pop_back();  // a line break after the last row
  for (const MathTokens row : rows) {
    const std::vector<MathTokens> cells = Split(row, "&");
    if (answer.columns == 0) answer.columns = cells.size();
    if (HasEmpty(cells) || cells.size() != answer.columns) {
      answer.items.clear();
      return true;
    }
    for (const MathTokens cell : cells) answer.items.push_back(Read(cell, depth + 1));
  }
  answer.kind = Kind::kMatrix;
  return true;
}

// An element 1 \pm 2 counts as two, and makes a list a set, since the two have no order.
void Flatten(MathAnswer& answer) {
  std::vector<MathAnswer> items;
  for (MathAnswer& item : answer.items) {
    if (item.text.find("\\pm") != std::string::npos && item.kind == Kind::kSet) {
      answer.kind = Kind::kSet;
      for (MathAnswer& one : item.items) items.push_back(std::move(one));
    } else {
      items.push_back(std::move(item));
    }
  }
  answer.items = std::move(items);
}

// Whether the elements are relations, some of which a label and its value may stand for: x = 1 or x > 5.
bool AreRelations(const std::vector<MathAnswer>& items) {
  const auto relates = [](const MathAnswer& item) { return item.kind == Kind::kRelation; };
  const auto says = [&](const MathAnswer& item) { return relates(item) || !item.label.empty(); };
  return std::ranges::any_of(items, relates) && std::ranges::all_of(items, says);
}

// (1,2), [0,1), \{1,2\}, {1,2} after Unwrap; 1,2 and 1 or 2 without brackets. Between relations "and" and "or" say
// different things; what both together say depends on their order, and stays text.
bool ReadSeries(MathTokens tokens, int depth, MathAnswer& answer) {
  const bool enclosed = IsEnclosed(tokens);
  const MathTokens inside = enclosed ? Inside(tokens) : tokens;
  const std::vector<MathTokens> parts = Split(inside, kSeparators);
  if (!enclosed && parts.size() < 2) return false;
  if (HasEmpty(parts)) return true;
  for (const MathTokens part : parts) answer.items.push_back(Read(part, depth + 1));
  if (AreRelations(answer.items)) {
    const std::vector<std::string_view> words = SeparatorsIn(inside, "and or");
    if (std::ranges::adjacent_find(words, std::ranges::not_equal_to()) != words.end()) {
      answer.items.clear();
      return true;
    }
    if (!words.empty()) answer.joint = words[0];
  }
  if (enclosed && (tokens[0].Is("(") || tokens[0].Is("["))) {
    answer.kind = Kind::kTuple;
    answer.open = tokens[0].text[0];
    answer.close = tokens.back().text[0];
    return true;
  }
  const bool has_or = std::ranges::any_of(tokens, [](const MathToken& t) { return t.Is("or"); });
  answer.kind = enclosed || has_or || !answer.joint.empty() ? Kind::kSet : Kind::kList;
  Flatten(answer);
  return true;
}

// x > 5, 0 < x \le 1: what stands on the sides is compared by its value, and 5 < x is x > 5.
bool ReadRelation(MathTokens tokens, int depth, MathAnswer& answer) {
  std::vector<std::string_view> relations = SeparatorsIn(tokens, kRelations);
  if (relations.empty()) return false;
  const std::vector<MathTokens> sides = Split(tokens, kRelations);
  if (HasEmpty(sides)) return true;
  for (const MathTokens side : sides) answer.items.push_back(Read(side, depth + 1));
  const auto mirrored = [](std::string_view relation) { return MeaningOf(relation, "< > | \\le \\ge"); };
  if (std::ranges::all_of(relations, [](auto r) { return HasWord("> \\ge", r); })) {
    std::ranges::reverse(answer.items);
    std::ranges::reverse(relations);
    std::ranges::transform(relations, relations.begin(), mirrored);
  }
  for (const std::string_view relation : relations) answer.relations.append(relation).append(" ");
  answer.kind = Kind::kRelation;
  return true;
}

// [0,1] \cup [2,3], or with the letter U between brackets.
bool ReadUnion(MathTokens tokens, int depth, MathAnswer& answer) {
  const auto enclosed = [](const std::vector<MathTokens>& parts) { return std::ranges::all_of(parts, IsEnclosed); };
  std::vector<MathTokens> parts = Split(tokens, "\\cup U");
  if (parts.size() > 1 && !enclosed(parts)) parts = Split(tokens, "\\cup");
  if (parts.size() < 2) return false;
  if (HasEmpty(parts)) return true;
  for (const MathTokens part : parts) answer.items.push_back(Read(part, depth + 1));
  answer.kind = Kind::kUnion;
  return true;
}

bool ReadPlusMinus(MathTokens tokens, MathAnswer& answer) {
  std::vector<MathToken> one(tokens.begin(), tokens.end());
  const auto sign = std::ranges::find_if(one, [](const MathToken& t) { return t.Is("\\pm"); });
  if (sign == one.end()) return false;
  for (const char* spelling : {"+", "-"}) {
    *sign = {MathToken::Kind::kSymbol, spelling};
    const std::optional<Number> value = ParseNumber(one);
    if (!value) {
      answer.items.clear();
      return true;
    }
    answer.items.push_back({.kind = Kind::kNumber, .text = value->Text(), .quantity = {.value = *value}});
  }
  answer.kind = Kind::kSet;
  return true;
}

MathAnswer Read(MathTokens tokens, int depth) {
  MathAnswer answer;
  tokens = Trim(tokens);
  if (depth < kMaxDepth) {
    const bool list = !IsEnclosed(tokens) && Split(tokens, kSeparators).size() > 1;
    // "x = 1, y = 2" is a list of two labelled answers.
    if (!list || Split(tokens, kRelations).size() == 2) tokens = Trim(TakeLabel(tokens, answer.label));
    tokens = Unwrap(tokens);
  }
  answer.text = Spelling(tokens);
  if (depth >= kMaxDepth || tokens.empty()) return answer;
  if (ReadMatrix(tokens, depth, answer) || ReadSeries(tokens, depth, answer) || ReadRelation(tokens, depth, answer) ||
      ReadUnion(tokens, depth, answer) || ReadPlusMinus(tokens, answer)) {
    return answer;
  }
  if (const std::optional<Quantity> quantity = ParseQuantity(tokens)) {
    answer.kind = Kind::kNumber;
    answer.quantity = *quantity;
  }
  return answer;
}

bool SameItem(const MathAnswer& gold, const MathAnswer& answer) { return CompareMathAnswers(gold, answer).correct; }

// As sets: how often an element comes does not count. Every pair is compared once, so nesting does not multiply the
// work.
bool SameSets(const std::vector<MathAnswer>& gold, const std::vector<MathAnswer>& answer) {
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
  return std::ranges::count(matched, false) == 0;
}

bool Conflict(const std::string& a, const std::string& b) { return !a.empty() && !b.empty() && a != b; }

MathVerdict CompareNumbers(const Quantity& gold, const Quantity& answer) {
  if (!(gold.value == answer.value)) return {false, "different numbers"};
  if (MeasuresConflict(gold.measure, answer.measure)) return {false, "different units"};
  if (gold.percent && !answer.percent) return {false, "no percent sign"};
  return {true, "equal numbers"};
}

// x = y and x \ne y say the same as y = x and y \ne x.
bool SameRelations(const MathAnswer& gold, const MathAnswer& answer) {
  if (gold.relations != answer.relations) return false;
  if (std::ranges::equal(gold.items, answer.items, SameItem)) return true;
  return HasWord("= \\ne \\approx", gold.relations.substr(0, gold.relations.size() - 1)) &&
         SameItem(gold.items[0], answer.items[1]) && SameItem(gold.items[1], answer.items[0]);
}

// What stands between two elements of a canonical text, if they are no sides of a relation.
std::string_view Separator(const MathAnswer& answer, bool new_row) {
  if (answer.kind == Kind::kUnion) return "\\cup";
  if (!answer.joint.empty()) return answer.joint;
  return new_row ? ";" : ",";
}

MathVerdict Judge(bool equal, const std::string& what) { return {equal, (equal ? "equal " : "different ") + what}; }

}  // namespace

MathAnswer ParseMathAnswer(std::string_view text) { return Read(TokenizeMath(text.substr(0, kMaxAnswerBytes)), 0); }

MathVerdict CompareMathAnswers(const MathAnswer& gold, const MathAnswer& answer) {
  if (Conflict(gold.label, answer.label)) return {false, "different left sides"};
  if (Conflict(gold.joint, answer.joint)) return {false, "different words between relations"};
  if (gold.kind == Kind::kNumber && answer.kind == Kind::kNumber) return CompareNumbers(gold.quantity, answer.quantity);
  if (gold.text == answer.text) return {true, "equal text"};
  const bool set = gold.kind == Kind::kSet || answer.kind == Kind::kSet;
  const auto is_series = [](Kind kind) { return kind == Kind::kSet || kind == Kind::kList; };
  if (set && is_series(gold.kind) && is_series(answer.kind)) return Judge(SameSets(gold.items, answer.items), "sets");
  if (gold.kind != answer.kind) return {false, "different kinds of answer"};
  if (gold.open != answer.open || gold.close != answer.close) return {false, "different brackets"};
  const bool same = gold.columns == answer.columns && std::ranges::equal(gold.items, answer.items, SameItem);
  switch (gold.kind) {
    case Kind::kTuple:
      return Judge(same, "tuples");
    case Kind::kList:
      return Judge(same, "lists");
    case Kind::kMatrix:
      return Judge(same, "matrices");
    case Kind::kUnion:
      return Judge(SameSets(gold.items, answer.items), "unions");
    case Kind::kRelation:
      return Judge(SameRelations(gold, answer), "relations");
    case Kind::kText:
    case Kind::kNumber:
    case Kind::kSet:
      break;  // numbers and sets were compared above
  }
  return {false, "different text"};
}

std::string CanonicalText(const MathAnswer& answer) {
  if (answer.kind == Kind::kNumber) return answer.quantity.value.Text() + (answer.quantity.percent ? "%" : "");
  if (answer.kind == Kind::kText) return answer.text;
  std::vector<std::string> items;
  for (const MathAnswer& item : answer.items) items.push_back(CanonicalText(item));
  if (answer.kind == Kind::kSet || answer.kind == Kind::kUnion) {
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
  }
  std::string_view relations = answer.relations;
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const bool new_row = answer.kind == Kind::kMatrix && i % answer.columns == 0;
    if (i > 0) {
      text += !relations.empty() ? TakeWord(relations) : Separator(answer, new_row);
    }
    text += items[i];
  }
  if (answer.kind == Kind::kSet) return "{" + text + "}";
  if (answer.kind == Kind::kTuple) return answer.open + text + answer.close;
  return answer.kind == Kind::kMatrix ? "[" + text + "]" : text;
}

}  // namespace swarr
