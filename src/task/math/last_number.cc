// SPDX-License-Identifier: Apache-2.0
#include "task/math/last_number.h"

#include <algorithm>

#include "task/math/number_words.h"
#include "task/math/thousands.h"
#include "task/math/unicode_latex.h"
#include "task/math/words.h"

namespace swarr {
namespace {

// What may stand between the digits of one number.
constexpr std::string_view kInside = R"(, . / {,} \, ,\! \!)";
// Commands in front of a number, or behind it, that make it part of a formula.
constexpr std::string_view kBefore = R"(\frac \dfrac \tfrac \cfrac \sqrt)";
constexpr std::string_view kBehind = R"(\pi \sqrt \frac \dfrac \tfrac \cdot \times \div \theta \alpha)";
constexpr std::string_view kTextCommands = R"(\text \textbf \textit \mathrm \mathbf \mbox)";
// Words behind a number that are part of it, beside those that say a number.
constexpr std::string_view kPartOfNumber = "percent pct percentage per squared cubed factorial";

bool IsWordCharacter(char c) { return IsLetter(c) || c == '\''; }

// The command or word that `text` ends with.
std::string_view LastWord(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0 && IsWordCharacter(text[begin - 1])) --begin;
  if (begin > 0 && text[begin - 1] == '\\') --begin;
  return text.substr(begin);
}

std::string_view FirstWord(std::string_view text) {
  std::size_t end = text.starts_with('\\') ? 1 : 0;
  while (end < text.size() && IsWordCharacter(text[end])) ++end;
  return text.substr(0, end);
}

std::string_view WithoutSpacesBehind(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kSpaces) + 1);
}
std::string_view WithoutSpacesBefore(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kSpaces), text.size()));
}

// Where the number that ends before `end` begins.
std::size_t NumberBegin(std::string_view text, std::size_t end) {
  std::size_t begin = end;
  while (begin > 0) {
    if (IsDigit(text[begin - 1])) {
      --begin;
      continue;
    }
    std::size_t inside = 0;
    for (std::string_view signs = kInside; !signs.empty();) {
      const std::string_view sign = TakeWord(signs);
      const std::string_view before = text.substr(0, begin);
      const bool found = before.ends_with(sign) && begin > sign.size() && IsDigit(text[begin - sign.size() - 1]);
      if (found) inside = std::max(inside, sign.size());
    }
    if (inside == 0) break;
    begin -= inside;
  }
  if (begin > 0 && text[begin - 1] == '.') --begin;  // .5
  return begin;
}

// Whether the number behind `before` is the argument of a power, an index, a fraction or a root.
bool IsArgument(std::string_view before) {
  if (before.ends_with('^') || before.ends_with('_')) return true;
  if (before.ends_with('{')) return !HasWord(kTextCommands, LastWord(before.substr(0, before.size() - 1)));
  return HasWord(kBefore, LastWord(before));
}

// Where the groups of three digits begin that stand before the number text[begin, end): 12 345 is one number. What
// stands before them is no part of another number, nor of a name such as x2.
std::size_t GroupsBegin(std::string_view text, std::size_t begin, std::size_t end) {
  if (text.substr(begin, end - begin).find_first_of(",/{\\") != std::string_view::npos) return begin;
  for (const std::string_view separator : kThousandsSeparators) {
    std::size_t first = begin, at = begin;
    while (text.substr(0, at).ends_with(separator) &&
           BeginsWithThousands(text.substr(at - separator.size()), separator)) {
      const std::size_t group_end = at - separator.size();
      at = group_end;
      while (at > 0 && IsDigit(text[at - 1])) --at;
      const std::string_view before = text.substr(0, at);
      const std::size_t digits = group_end - at;
      const bool name = !before.empty() && IsLetter(before.back());
      if (digits == 0 || digits > 3 || NumberBegin(text, group_end) != at || IsArgument(before) || name) break;
      if (text[at] != '0') first = at;
      if (digits < 3) break;
    }
    if (first < begin) return first;
  }
  return begin;
}

// Whether `before` ends in a minus sign that belongs to the number. Behind a letter or a digit it subtracts or
// hyphenates; with a space behind it, it is a sign only after a relation or a bracket.
bool IsNegative(std::string_view before) {
  const std::string_view adjacent = WithoutSpacesBehind(before);
  if (!adjacent.ends_with('-')) return false;
  const std::string_view rest = adjacent.substr(0, adjacent.size() - 1);
  if (adjacent.size() < before.size()) {
    const std::string_view left = WithoutSpacesBehind(rest);
    return left.empty() || std::string_view("=<>(:[").find(left.back()) != std::string_view::npos;
  }
  return rest.empty() || !(IsDigit(rest.back()) || IsLetter(rest.back()) || rest.back() == ')');
}

// The bytes behind the number that belong to it: a percent sign, letters that touch it, and words that say a number.
std::size_t BytesBehind(std::string_view behind) {
  if (behind.starts_with('%')) return 1;
  if (behind.starts_with("\\%")) return 2;
  std::size_t bytes = FirstWord(behind).starts_with('\\') ? 0 : FirstWord(behind).size();
  while (true) {
    const std::string_view rest = behind.substr(bytes), next = WithoutSpacesBefore(rest);
    const std::string_view word = FirstWord(next);
    const bool part = SaysNumber(word) || HasWord(kPartOfNumber, LowerCase(word)) ||
                      (HasWord("cent cents", LowerCase(word)) && LowerCase(LastWord(behind.substr(0, bytes))) == "per");
    if (word.empty() || !part) return bytes;
    bytes += rest.size() - next.size() + word.size();
  }
}

// 5^2 and 5\pi are no last numbers; 5^\circ is one.
bool GoesOn(std::string_view behind) {
  if (behind.starts_with('^')) return !behind.starts_with("^\\circ") && !behind.starts_with("^{\\circ}");
  return behind.starts_with('_') || HasWord(kBehind, FirstWord(WithoutSpacesBefore(behind)));
}

}  // namespace

std::string LastNumber(std::string_view original) {
  const std::string latex = UnicodeToLatex(original);
  const std::string_view text = latex;
  const std::size_t last = text.find_last_of("0123456789");
  if (last == std::string_view::npos) return {};
  const std::size_t begin = GroupsBegin(text, NumberBegin(text, last + 1), last + 1);
  const std::string_view behind = text.substr(last + 1);
  std::string_view before = text.substr(0, begin);
  if (IsArgument(before) || GoesOn(behind)) return {};
  if (before.ends_with('$')) before.remove_suffix(before.ends_with("\\$") ? 2 : 1);
  const std::string_view word = LastWord(WithoutSpacesBehind(before));
  if (IsNegation(word) || SaysNumber(word)) return {};
  const bool negative = IsNegative(before) || HasWord("minus negative", LowerCase(word));
  return (negative ? "-" : "") + std::string(text.substr(begin, last + 1 - begin + BytesBehind(behind)));
}

}  // namespace swarr
