// SPDX-License-Identifier: Apache-2.0
#include "task/math/brackets.h"

#include "task/math/words.h"

namespace swarr {
namespace {

// How the depth of brackets changes at a token: by 1, -1 or 0.
int DepthChange(const MathToken& t) { return HasWord("( [ { \\{", t.text) ? 1 : HasWord(") ] } \\}", t.text) ? -1 : 0; }

// Whether `close` may end what `open` began.
bool Match(const MathToken& open, const MathToken& close) {
  if (open.Is("{")) return close.Is("}");
  if (open.Is("\\{")) return close.Is("\\}");
  return close.Is(")") || close.Is("]");
}

// Calls visit(i) for each of `separators` outside brackets.
template <class Visit>
void ForEachSeparator(MathTokens tokens, std::string_view separators, const Visit& visit) {
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    depth += DepthChange(tokens[i]);
    if (depth == 0 && HasWord(separators, tokens[i].text)) visit(i);
  }
}

}  // namespace

bool IsEnclosed(MathTokens tokens) {
  if (tokens.size() < 2 || DepthChange(tokens.front()) != 1 || !Match(tokens.front(), tokens.back())) return false;
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    depth += DepthChange(tokens[i]);
    if (depth <= 0) return depth == 0 && i + 1 == tokens.size();
  }
  return false;
}

std::vector<MathTokens> Split(MathTokens tokens, std::string_view separators) {
  std::vector<MathTokens> parts;
  std::size_t begin = 0;
  ForEachSeparator(tokens, separators, [&](std::size_t i) {
    const bool oxford = i == begin && i > 0 && tokens[i].kind == MathToken::Kind::kWord && tokens[i - 1].Is(",");
    if (!oxford) parts.push_back(tokens.subspan(begin, i - begin));
    begin = i + 1;
  });
  parts.push_back(tokens.subspan(begin));
  return parts;
}

std::vector<std::string_view> SeparatorsIn(MathTokens tokens, std::string_view separators) {
  std::vector<std::string_view> found;
  ForEachSeparator(tokens, separators, [&](std::size_t i) { found.push_back(tokens[i].text); });
  return found;
}

}  // namespace swarr
