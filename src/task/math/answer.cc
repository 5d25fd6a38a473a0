// SPDX-License-Identifier: Apache-2.0
#include "task/math/answer.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "task/math/expression.h"
#include "task/math/tokens.h"
#include "task/math/unit.h"

namespace swarr {
namespace {

using Kind = MathAnswer::Kind;

constexpr int kMaxDepth = 32;

bool Opens(const MathToken& t) { return t.Is("(") || t.Is("[") || t.Is("{") || t.Is("\\{"); }
bool Closes(const MathToken& t) { return t.Is(")") || t.Is("]") || t.Is("}") || t.Is("\\}"); }
bool IsOr(const MathToken& t) { return t.Is("or"); }
bool Separates(const MathToken& t) { return t.Is(",") || t.Is(";") || t.Is("and") || IsOr(t); }

// Whether `close` may end what `open` began: intervals mix round and square brackets.
bool Match(const MathToken& open, const MathToken& close) {
  if (open.Is("{")) return close.Is("}");
  if (open.Is("\\{")) return close.Is("\\}");
  return close.Is(")") || close.Is("]");
}

// The first token is a bracket that the last one closes.
bool IsEnclosed(MathTokens tokens) {
  if (tokens.size() < 2 || !Opens(tokens.front()) || !Match(tokens.front(), tokens.back())) return false;
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    depth += Opens(tokens[i]) ? 1 : Closes(tokens[i]) ? -1 : 0;
    if (depth <= 0) return depth == 0 && i + 1 == tokens.size();
  }
  return false;
}

// The parts between tokens outside brackets that `separates` picks; ", and" separates once.
template <class Predicate>
std::vector<MathTokens> Split(MathTokens tokens, const Predicate& separates) {
  std::vector<MathTokens> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    depth += Opens(tokens[i]) ? 1 : Closes(tokens[i]) ? -1 : 0;
    if (depth != 0 || !separates(tokens[i])) continue;
    const bool oxford = i == begin && i > 0 && tokens[i].kind == MathToken::Kind::kWord && tokens[i - 1].Is(",");
    if (!oxford) parts.push_back(tokens.subspan(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(tokens.subspan(begin));
  return parts;
}

bool IsSymbolName(const MathToken& t) {
  const bool letter = t.kind == MathToken::Kind::kWord && t.text.size() == 1;
  const bool greek = t.kind == MathToken::Kind::kCommand && t.text.size() > 3 && std::isalpha(t.text[1]) != 0 &&
                     t.text != "\\frac" && t.text != "\\sqrt" && t.text != "\\infty" && t.text != "\\degree";
  return letter || greek;
}

// x, x_1, or (p,q).
bool IsLabel(MathTokens tokens) {
  if (tokens.empty()) return false;
  if (tokens.size() >= 5 && IsEnclosed(tokens) && tokens[0].Is("(")) {
    for (std::size_t i = 1; i + 1 < tokens.size(); ++i) {
      if (!(i % 2 == 1 ? IsSymbolName(tokens[i]) : tokens[i].Is(","))) return false;
    }
    return tokens.size() % 2 == 1;
  }
  if (!IsSymbolName(tokens[0])) return false;
  return tokens.size() == 1 || (tokens.size() == 5 && tokens[1].Is("_") && IsEnclosed(tokens.subspan(2)));
}

bool IsRelation(const MathToken& t) {
  return t.Is("=") || t.Is("<") || t.Is(">") || t.Is("\\le") || t.Is("\\ge") || t.Is("\\ne") || t.Is("\\in");
}

// Splits "x = 5" and "x = ... = 5" into label and value; a relation without a lone symbol on its left stays whole.
MathTokens TakeLabel(MathTokens tokens, std::string& label) {
  const std::vector<MathTokens> sides = Split(tokens, IsRelation);
  if (sides.size() < 2 || !IsLabel(sides[0]) || sides.back().empty()) return tokens;
  const MathToken& relation = tokens[sides[0].size()];
  const bool equations =
      std::all_of(tokens.begin(), tokens.end(), [](const MathToken& t) { return !IsRelation(t) || t.Is("="); });
  if (!equations && !(relation.Is("\\in") && sides.size() == 2)) return tokens;
  label = JoinTokens(sides[0]);
  return sides.back();
}

class Reader {
 public:
  MathAnswer Read(MathTokens tokens, int depth) {
    MathAnswer answer;
    tokens = Trim(tokens);
    if (depth < kMaxDepth) {
      const std::size_t separators = Split(tokens, Separates).size() - 1;
      // "x = 1, y = 2" is a list of two labelled answers.
      if (separators == 0 || IsEnclosed(tokens) || Split(tokens, IsRelation).size() == 2) {
        tokens = Trim(TakeLabel(tokens, answer.label));
      }
      tokens = Unwrap(tokens);
    }
    answer.text = Spelling(tokens);
    if (depth >= kMaxDepth || tokens.empty()) return answer;
    if (!ReadMatrix(tokens, depth, answer) && !ReadBrackets(tokens, depth, answer) &&
        !ReadList(tokens, depth, answer) && !ReadPlusMinus(tokens, answer)) {
      ReadQuantity(tokens, answer);
    }
    return answer;
  }

 private:
  // Without a final full stop (but with three), and without a leading plus sign.
  static MathTokens Trim(MathTokens tokens) {
    const std::size_t n = tokens.size();
    const bool stop = n > 1 && (tokens[n - 1].Is(".") || tokens[n - 1].Is(",")) && !tokens[n - 2].Is(".");
    if (stop) tokens = tokens.first(n - 1);
    if (tokens.size() > 1 && tokens[0].Is("+")) tokens = tokens.subspan(1);
    return tokens;
  }

  static bool IsMatrix(MathTokens tokens) {
    return tokens.size() >= 3 && tokens.front().Is("\\begin{pmatrix}") && tokens.back().Is("\\end{pmatrix}");
  }

  // Without parentheses or braces around all of it that hold one element only, or brackets around a matrix.
  static MathTokens Unwrap(MathTokens tokens) {
    for (int i = 0; i < kMaxDepth && IsEnclosed(tokens); ++i) {
      const bool round = tokens[0].Is("(") && tokens.back().Is(")");
      const bool square = tokens[0].Is("[") && tokens.back().Is("]");
      const MathTokens inside = tokens.subspan(1, tokens.size() - 2);
      const bool alone = !inside.empty() && Split(inside, Separates).size() == 1;
      if (!alone || !(round || tokens[0].Is("{") || (square && IsMatrix(inside)))) break;
      tokens = inside;
    }
    return tokens;
  }

  // Words alone are compared without regard to case.
  static std::string Spelling(MathTokens tokens) {
    std::string text = JoinTokens(tokens);
    const bool words =
        std::all_of(tokens.begin(), tokens.end(), [](const MathToken& t) { return t.kind == MathToken::Kind::kWord; });
    if (words && text.size() > 1) {
      for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    return text;
  }

  void ReadItems(const std::vector<MathTokens>& parts, int depth, MathAnswer& answer) {
    for (const MathTokens part : parts) answer.items.push_back(Read(part, depth + 1));
  }

  static bool HasEmpty(const std::vector<MathTokens>& parts) {
    return std::any_of(parts.begin(), parts.end(), [](MathTokens part) { return part.empty(); });
  }

  bool ReadMatrix(MathTokens tokens, int depth, MathAnswer& answer) {
    if (tokens.size() < 3 || !tokens.front().Is("\\begin{pmatrix}") || !tokens.back().Is("\\end{pmatrix}"))
      return false;
    std::vector<MathTokens> rows =
        Split(tokens.subspan(1, tokens.size() - 2), [](const MathToken& t) { return t.Is("\\\\"); });
    if (rows.back().empty()) rows.pop_back();  // a line break after the last row
    for (const MathTokens row : rows) {
      const std::vector<MathTokens> cells = Split(row, [](const MathToken& t) { return t.Is("&"); });
      if (answer.columns == 0) answer.columns = cells.size();
      if (HasEmpty(cells) || cells.size() != answer.columns) {
        answer.items.clear();
        return true;  // no matrix: text
      }
      ReadItems(cells, depth, answer);
    }
    answer.kind = Kind::kMatrix;
    return true;
  }

  // (1,2), [0,1), \{1,2\}, {1,2}; after Unwrap.
  bool ReadBrackets(MathTokens tokens, int depth, MathAnswer& answer) {
    if (!IsEnclosed(tokens)) return false;
    const bool set = tokens[0].Is("\\{") || tokens[0].Is("{");
    const std::vector<MathTokens> parts = Split(tokens.subspan(1, tokens.size() - 2), Separates);
    if (HasEmpty(parts)) return true;
    ReadItems(parts, depth, answer);
    answer.kind = set ? Kind::kSet : Kind::kTuple;
    answer.open = set ? '{' : tokens[0].text[0];
    answer.close = set ? '}' : tokens.back().text[0];
    if (set) Flatten(answer);
    return true;
  }

  bool ReadList(MathTokens tokens, int depth, MathAnswer& answer) {
    const std::vector<MathTokens> parts = Split(tokens, Separates);
    if (parts.size() < 2) return false;
    if (HasEmpty(parts)) return true;
    ReadItems(parts, depth, answer);
    answer.kind = std::any_of(tokens.begin(), tokens.end(), IsOr) ? Kind::kSet : Kind::kList;
    Flatten(answer);
    return true;
  }

  // An element 1 \pm 2 of a set or a list is two; then there is no order any more.
  static void Flatten(MathAnswer& answer) {
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

  static bool ReadPlusMinus(MathTokens tokens, MathAnswer& answer) {
    std::vector<MathToken> sign(tokens.begin(), tokens.end());
    const auto at = std::find_if(sign.begin(), sign.end(), [](const MathToken& t) { return t.Is("\\pm"); });
    if (at == sign.end()) return false;
    for (const char* spelling : {"+", "-"}) {
      *at = {MathToken::Kind::kSymbol, spelling};
      const std::optional<Number> value = ParseNumber(sign);
      if (!value) {
        answer.items.clear();
        return true;
      }
      MathAnswer item;
      item.kind = Kind::kNumber;
      item.text = value->Text();
      item.number = *value;
      answer.items.push_back(std::move(item));
    }
    answer.kind = Kind::kSet;
    return true;
  }

  static void ReadQuantity(MathTokens tokens, MathAnswer& answer) {
    const std::optional<Quantity> quantity = ParseQuantity(tokens);
    if (!quantity) return;
    answer.kind = Kind::kNumber;
    answer.number = quantity->value;
    answer.percent = quantity->percent;
    answer.measure = quantity->measure;
  }
};

}  // namespace

MathAnswer ParseMathAnswer(std::string_view text) {
  const std::vector<MathToken> tokens = TokenizeMath(text.substr(0, kMaxAnswerBytes));
  return Reader().Read(tokens, 0);
}

std::string CanonicalText(const MathAnswer& answer) {
  if (answer.kind == Kind::kNumber) return answer.number.Text() + (answer.percent ? "%" : "");
  if (answer.kind == Kind::kText) return answer.text;
  std::vector<std::string> items;
  for (const MathAnswer& item : answer.items) items.push_back(CanonicalText(item));
  if (answer.kind == Kind::kSet) {
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
  }
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const bool new_row = answer.kind == Kind::kMatrix && i % answer.columns == 0;
    if (i > 0) text += new_row ? ";" : ",";
    text += items[i];
  }
  if (answer.kind == Kind::kSet) return "{" + text + "}";
  if (answer.kind == Kind::kTuple) return answer.open + text + answer.close;
  return answer.kind == Kind::kMatrix ? "[" + text + "]" : text;
}

}  // namespace swarr
