// SPDX-License-Identifier: Apache-2.0
#include "task/math/label.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "task/math/brackets.h"
#include "task/math/number_words.h"
#include "task/math/words.h"

namespace swarr {
namespace {

using Kind = MathToken::Kind;

bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }

bool IsSymbol(const MathToken& t) {
  const bool letter = t.kind == Kind::kWord && t.text.size() == 1;
  const bool greek = t.kind == Kind::kCommand && t.text.size() > 3 && IsLetter(t.text[1]) &&
                     !HasWord(R"(\frac \sqrt \infty \degree)", t.text);
  return letter || greek;
}

// AB, the segment; ABC, the triangle.
bool IsPoints(const MathToken& t) {
  return t.kind == Kind::kWord && t.text.size() > 1 && std::ranges::all_of(t.text, IsUpper) && !ChangesNumber(t.text);
}

// A word of the name of a quantity: "Area", "of".
bool IsNameWord(const MathToken& t) {
  if (t.kind != Kind::kWord || t.text.size() < 2) return false;
  const std::string word = LowerCase(t.text);
  if (HasWord("of the sum ans time base power", word)) return true;
  return !ChangesNumber(word) && (t.in_text || IsOrdinaryWord(word));
}

// Reads tokens as the name of a quantity.
class NameReader {
 public:
  explicit NameReader(MathTokens tokens) : tokens_(tokens) {}

  // One name, or several behind a word or sign that introduces them: \angle A B C, "Area of ABC". Without it, letters
  // side by side are a product.
  bool Run() {
    bool introduced = false;
    for (int names = 0; at_ < tokens_.size();) {
      if (TakeIntroduction()) {
        introduced = true;
      } else if ((names++ > 0 && !introduced) || !TakeName()) {
        return false;
      }
    }
    return !tokens_.empty();
  }

 private:
  bool Next(std::string_view spelling, std::size_t ahead = 0) const {
    return at_ + ahead < tokens_.size() && tokens_[at_ + ahead].Is(spelling);
  }
  bool Take(std::string_view spelling) {
    const bool found = Next(spelling);
    at_ += found;
    return found;
  }

  bool TakeIntroduction() {
    if (Next("m") && Next("\\angle", 1)) ++at_;
    const MathToken& token = tokens_[at_];
    const bool found = HasWord(R"(\angle \triangle \Delta)", token.text) || (IsNameWord(token) && !IsPoints(token));
    at_ += found;
    return found;
  }

  bool TakeName() {
    if (Take("|")) return TakePoints() && Take("|");
    if (Take("[")) return TakePoints() && Take("]");
    if (Take("\\overline") || Take("\\vec") || Take("\\hat")) {
      return Take("{") && (TakePoints() || TakeSymbol()) && Take("}");
    }
    const bool function =
        HasWord("f g h", tokens_[at_].text) || (tokens_[at_].text.size() == 1 && IsUpper(tokens_[at_].text[0]));
    if (!TakePoints() && !TakeSymbol()) return false;
    while (Take("'")) {
    }
    if (Take("_") && !TakeGroup("{", "}")) return false;
    if (function && Next("(")) return AreArguments() && TakeGroup("(", ")");
    Take("\\degree");
    return true;
  }

  bool TakePoints() { return TakeIf(IsPoints); }
  bool TakeSymbol() { return TakeIf(IsSymbol); }
  bool TakeIf(bool (*belongs)(const MathToken&)) {
    const bool found = at_ < tokens_.size() && belongs(tokens_[at_]);
    at_ += found;
    return found;
  }

  // The end of the group that begins here; the size of all if it has none.
  std::size_t GroupEnd(std::string_view open, std::string_view close) const {
    int depth = 0;
    for (std::size_t i = at_; i < tokens_.size(); ++i) {
      depth += tokens_[i].Is(open) ? 1 : tokens_[i].Is(close) ? -1 : 0;
      if (depth <= 0) return depth < 0 || i == at_ ? tokens_.size() : i + 1;
    }
    return tokens_.size();
  }
  bool TakeGroup(std::string_view open, std::string_view close) {
    if (!Next(open)) return false;
    const std::size_t end = GroupEnd(open, close);
    const bool closed = tokens_[end - 1].Is(close);
    at_ = end;
    return closed;
  }

  // What an argument of a function may hold. A sum or a product would be a factor as well: x(x+1).
  bool AreArguments() const {
    const MathTokens group = tokens_.subspan(at_, GroupEnd("(", ")") - at_);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const MathToken& t = group[i];
      const bool sign = t.Is("-") && (group[i - 1].Is("(") || group[i - 1].Is(","));
      const bool letters = t.kind == Kind::kWord && (t.text.size() == 1 || IsPoints(t) || t.in_text);
      const bool other = HasWord(R"(( ) , | ' \mid \cap \cup \circ \pi)", t.text) || HasWord(kRelations, t.text);
      if (!sign && !letters && !other && t.kind != Kind::kNumber) return false;
    }
    return true;
  }

  MathTokens tokens_;
  std::size_t at_ = 0;
};

// (p,q)
bool IsTupleOfSymbols(MathTokens tokens) {
  if (tokens.size() < 5 || tokens.size() % 2 == 0 || !IsEnclosed(tokens) || !tokens[0].Is("(")) return false;
  for (std::size_t i = 1; i + 1 < tokens.size(); ++i) {
    if (!(i % 2 == 1 ? IsSymbol(tokens[i]) : tokens[i].Is(","))) return false;
  }
  return true;
}

}  // namespace

MathTokens TakeLabel(MathTokens tokens, std::string& label) {
  const std::vector<MathTokens> sides = Split(tokens, kRelations);
  const std::vector<std::string_view> relations = SeparatorsIn(tokens, kRelations);
  if (relations.empty() || sides.back().empty()) return tokens;
  const auto is_name = [](MathTokens side) { return IsTupleOfSymbols(side) || NameReader(side).Run(); };
  const auto relates = [&](std::initializer_list<std::string_view> known) {
    return std::ranges::all_of(relations, [&](auto r) { return std::ranges::count(known, r) > 0; });
  };
  if (relations.size() == 1 && relates({"="}) && !sides[0].empty() && !is_name(sides[0]) && is_name(sides[1])) {
    label = JoinTokens(sides[1]);
    return sides[0];
  }
  const bool membership = relations.size() == 1 && relates({"\\in"}) && !sides[0].empty();
  if (!relates({"=", "\\approx"}) && !membership) return tokens;
  if (!sides[0].empty() && !is_name(sides[0])) return tokens;
  label = JoinTokens(sides[0]);
  // The exact value stands before a rounded one.
  const auto rounded = static_cast<std::size_t>(std::ranges::find(relations, "\\approx") - relations.begin());
  const bool exact = rounded > 0 && rounded < relations.size() && !sides[rounded].empty();
  return exact ? sides[rounded] : sides.back();
}

}  // namespace swarr
