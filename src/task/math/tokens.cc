// SPDX-License-Identifier: Apache-2.0
#include "task/math/tokens.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "task/math/unicode.h"

namespace swarr {
namespace {

using Kind = MathToken::Kind;

template <std::size_t N>
bool Among(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

constexpr std::array<std::string_view, 18> kTextCommands = {
    "\\text",   "\\mbox",   "\\hbox",         "\\textnormal", "\\textrm",     "\\textbf",
    "\\textit", "\\texttt", "\\textsf",       "\\mathrm",     "\\mathbf",     "\\mathit",
    "\\mathsf", "\\mathtt", "\\operatorname", "\\emph",       "\\boldsymbol", "\\bm"};

constexpr std::array<std::string_view, 22> kDropped = {
    "\\left",         "\\right",     "\\big", "\\Big", "\\bigg", "\\Bigg",     "\\bigl", "\\bigr",
    "\\Bigl",         "\\Bigr",      "\\(",   "\\)",   "\\[",    "\\]",        "\\!",    "\\limits",
    "\\displaystyle", "\\textstyle", "\\rm",  "\\bf",  "\\it",   "\\mathstrut"};

constexpr std::array<std::string_view, 9> kSpaces = {"\\,",    "\\;",     "\\:",       "\\ ",        "\\>",
                                                     "\\quad", "\\qquad", "\\enspace", "\\thinspace"};

// Commands that are another spelling of a command or a character.
constexpr std::array<std::pair<std::string_view, std::string_view>, 28> kSynonyms = {{
    {"\\dfrac", "\\frac"},
    {"\\tfrac", "\\frac"},
    {"\\cfrac", "\\frac"},
    {"\\leq", "\\le"},
    {"\\leqslant", "\\le"},
    {"\\geq", "\\ge"},
    {"\\geqslant", "\\ge"},
    {"\\neq", "\\ne"},
    {"\\lt", "<"},
    {"\\gt", ">"},
    {"\\lbrace", "\\{"},
    {"\\rbrace", "\\}"},
    {"\\lparen", "("},
    {"\\rparen", ")"},
    {"\\lbrack", "["},
    {"\\rbrack", "]"},
    {"\\times", "*"},
    {"\\cdot", "*"},
    {"\\ast", "*"},
    {"\\div", "/"},
    {"\\%", "%"},
    {"\\&", "&"},
    {"\\#", "#"},
    {"\\_", " "},
    {"\\varnothing", "\\emptyset"},
    {"\\dots", "\\ldots"},
    {"\\cdots", "\\ldots"},
    {"\\dollar", "\\$"},
}};

// Words that stand for a command in plain text.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kWordCommands = {
    {{"sqrt", "\\sqrt"}, {"pi", "\\pi"}, {"infinity", "\\infty"}}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kMatrices = {
    {{"bmatrix", "pmatrix"}, {"array", "pmatrix"}, {"matrix", "pmatrix"}, {"smallmatrix", "pmatrix"}}};

template <std::size_t N>
std::string_view Lookup(std::string_view name,
                        const std::array<std::pair<std::string_view, std::string_view>, N>& table) {
  const auto found = std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.first == name; });
  return found == table.end() ? name : found->second;
}

// 007 is 7, 72.0 is 72, .50 is 0.5.
std::string CanonicalDigits(std::string_view whole, std::string_view fraction) {
  whole.remove_prefix(std::min(whole.find_first_not_of('0'), whole.size()));
  fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
  std::string digits(whole.empty() ? "0" : whole);
  if (!fraction.empty()) digits.append(".").append(fraction);
  return digits;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {
    // One lone dollar sign before a number is money; all others delimit mathematics.
    const std::size_t dollar = text.find('$');
    one_dollar_ = dollar != std::string_view::npos && text.find('$', dollar + 1) == std::string_view::npos;
  }

  std::vector<MathToken> Run() {
    while (at_ < text_.size()) Next();
    return std::move(tokens_);
  }

 private:
  char Peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool StartsWith(std::string_view start) const { return text_.substr(at_).starts_with(start); }
  void SkipSpaces() {
    while (IsSpace(Peek())) ++at_;
  }

  void Emit(Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), std::exchange(space_, false), text_groups_ > 0});
  }

  void Next() {
    const char c = Peek();
    if (IsSpace(c) || c == '~') {
      space_ = true;
      ++at_;
    } else if (c == '\\' && at_ + 1 < text_.size()) {
      Command();
    } else if (IsDigit(c) || (c == '.' && IsDigit(Peek(1)))) {
      NumberToken();
    } else if (IsLetter(c)) {
      Word();
    } else {
      Symbol();
    }
  }

  void Word() {
    const std::size_t begin = at_;
    while (IsLetter(Peek())) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    const std::string_view command = text_groups_ > 0 ? word : Lookup(word, kWordCommands);
    Emit(command == word ? Kind::kWord : Kind::kCommand, std::string(command));
  }

  void Symbol() {
    std::size_t size = 1;
    while (static_cast<unsigned char>(Peek()) >= 0xC0 && size < 4 && IsContinuation(Peek(size))) ++size;
    const std::string symbol(text_.substr(at_, size));
    at_ += size;
    if (symbol == "$") {
      if (one_dollar_ && (IsDigit(Peek()) || Peek() == '.')) Emit(Kind::kCommand, "\\$");
      return;
    }
    if (symbol == "{") groups_.push_back(false);
    if (symbol == "}" && !groups_.empty()) {
      const bool was_text = groups_.back();
      groups_.pop_back();
      if (was_text) {
        --text_groups_;
        return;
      }
    }
    if (symbol == "(" || symbol == "[") ++brackets_;
    if (symbol == ")" || symbol == "]") --brackets_;
    Emit(Kind::kSymbol, symbol);
  }

  void Command() {
    const std::size_t begin = at_++;
    if (IsLetter(Peek())) {
      while (IsLetter(Peek())) ++at_;
    } else {
      ++at_;
    }
    const std::string_view name = text_.substr(begin, at_ - begin);
    if (Among(name, kTextCommands)) {
      SkipSpaces();
      if (Peek() != '{') return;
      ++at_;
      groups_.push_back(true);
      ++text_groups_;
      return;
    }
    if (Among(name, kSpaces)) {
      space_ = true;
      return;
    }
    if (Among(name, kDropped)) {
      const bool needs_delimiter = name == "\\left" || name == "\\right";
      if (needs_delimiter && Peek() == '.') ++at_;  // the invisible one
      return;
    }
    if (name == "\\begin" || name == "\\end") return Environment(name);
    if (name == "\\sqrt" && Peek() == '[') return RootWithIndex();
    std::string spelling(Lookup(name, kSynonyms));
    if (spelling == " ") {
      space_ = true;
      return;
    }
    if (spelling == "\\{" || spelling == "(" || spelling == "[") ++brackets_;
    if (spelling == "\\}" || spelling == ")" || spelling == "]") --brackets_;
    const Kind kind = spelling[0] == '\\' ? Kind::kCommand : Kind::kSymbol;
    Emit(kind, std::move(spelling));
  }

  // \sqrt[3] is one command.
  void RootWithIndex() {
    constexpr std::size_t kLongestIndex = 8;
    const std::size_t end = text_.substr(at_, kLongestIndex).find(']');
    const std::string_view index = end == std::string_view::npos ? "" : text_.substr(at_, end + 1);
    at_ += index.size();
    Emit(Kind::kCommand, index == "[2]" ? "\\sqrt" : "\\sqrt" + std::string(index));
  }

  // \begin{array}{cc} is one command, \begin{pmatrix}.
  void Environment(std::string_view command) {
    constexpr std::size_t kLongestName = 32;
    const auto group = [&]() -> std::string_view {
      if (Peek() != '{') return "";
      const std::size_t end = text_.substr(at_, kLongestName).find('}');
      if (end == std::string_view::npos) return "";
      const std::string_view content = text_.substr(at_ + 1, end - 1);
      at_ += end + 1;
      return content;
    };
    const std::string_view name = group();
    if (name == "array" && command == "\\begin") group();
    Emit(Kind::kCommand, std::string(command) + "{" + std::string(Lookup(name, kMatrices)) + "}");
  }

  std::string_view Digits() {
    const std::size_t begin = at_;
    while (IsDigit(Peek())) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // Whether `separator` and exactly three digits come next.
  bool IsThousands(std::string_view separator) const {
    if (!StartsWith(separator)) return false;
    const std::size_t n = separator.size();
    return IsDigit(Peek(n)) && IsDigit(Peek(n + 1)) && IsDigit(Peek(n + 2)) && !IsDigit(Peek(n + 3));
  }

  // The separator of thousands that follows, empty if none. A plain comma within brackets separates elements.
  std::string_view ThousandsSeparator() const {
    constexpr std::array<std::string_view, 8> kAnywhere = {"{,}", ",\\!", ",\\,", " ", "\\,", "\\ ", "~", "\\!"};
    if (brackets_ <= 0 && IsThousands(",")) return ",";
    for (const std::string_view separator : kAnywhere) {
      if (IsThousands(separator)) return separator;
    }
    return "";
  }

  void NumberToken() {
    const std::size_t begin = at_;
    std::string whole(Digits());
    if (!whole.empty() && whole.size() <= 3 && whole[0] != '0') {
      const std::size_t after_first = at_;
      const std::string first = whole;
      const std::string_view separator = ThousandsSeparator();
      while (!separator.empty() && IsThousands(separator)) {
        at_ += separator.size();
        whole += Digits();
      }
      // 1 125/126 is a mixed number.
      std::size_t next = at_;
      while (next < text_.size() && IsSpace(text_[next])) ++next;
      if (at_ > after_first && separator == " " && next < text_.size() && text_[next] == '/') {
        at_ = after_first;
        whole = first;
      }
    }
    std::string fraction;
    if (Peek() == '.' && IsDigit(Peek(1))) {
      ++at_;
      fraction = Digits();
    }
    // The arguments of an unbraced \frac are single digits: they stay as they are written.
    const bool argument = !tokens_.empty() && tokens_.back().Is("\\frac");
    Emit(Kind::kNumber, argument ? std::string(text_.substr(begin, at_ - begin)) : CanonicalDigits(whole, fraction));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool one_dollar_ = false, space_ = false;
  std::vector<bool> groups_;  // the open braces; true for those of \text
  std::int64_t text_groups_ = 0, brackets_ = 0;
  std::vector<MathToken> tokens_;
};

// 90^\circ is 90 followed by \degree.
std::vector<MathToken> UnifyDegrees(const std::vector<MathToken>& tokens) {
  std::vector<MathToken> result;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto is = [&](std::size_t ahead, std::string_view spelling) {
      return i + ahead < tokens.size() && tokens[i + ahead].Is(spelling);
    };
    const bool bare = is(0, "^") && is(1, "\\circ");
    const bool braced = is(0, "^") && is(1, "{") && is(2, "\\circ") && is(3, "}");
    result.push_back(bare || braced ? MathToken{Kind::kCommand, "\\degree"} : tokens[i]);
    i += braced ? 3 : bare ? 1 : 0;
  }
  return result;
}

// Puts the arguments of ^, _, \frac and \sqrt in braces.
class ArgumentBracer {
 public:
  std::vector<MathToken> Run(const std::vector<MathToken>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) Take(tokens[i], i + 1 < tokens.size() ? &tokens[i + 1] : nullptr);
    return std::move(result_);
  }

 private:
  struct Pending {
    int arguments;
    std::size_t depth;
    bool digits;  // an argument is one digit: \frac12
  };

  bool Awaits() const { return !pending_.empty() && pending_.back().depth == depth_; }
  void ArgumentDone() {
    if (--pending_.back().arguments == 0) pending_.pop_back();
  }
  void Wrap(MathToken token) {
    result_.push_back({Kind::kSymbol, "{"});
    result_.push_back(std::move(token));
    result_.push_back({Kind::kSymbol, "}"});
  }

  void Take(const MathToken& token, const MathToken* next) {
    if (token.Is("}")) {
      while (!pending_.empty() && pending_.back().depth > depth_) pending_.pop_back();
      if (Awaits()) pending_.pop_back();  // an argument is missing
      if (depth_ > 0) --depth_;
      result_.push_back(token);
      if (Awaits()) ArgumentDone();
      return;
    }
    if (token.Is("{")) {
      ++depth_;
      result_.push_back(token);
      return;
    }
    const bool opens = token.Is("\\frac") || token.text.starts_with("\\sqrt") || token.Is("^") || token.Is("_");
    if (Awaits()) {
      if (opens || token.Is("(") || token.Is("[") || token.Is("\\{")) {
        pending_.pop_back();  // no single token: left as it is
      } else if (token.Is("-") && !pending_.back().digits && next != nullptr && next->kind == Kind::kNumber) {
        negative_ = true;  // 10^-3
        return;
      } else {
        return Argument(token);
      }
    }
    result_.push_back(token);
    if (opens) pending_.push_back({token.Is("\\frac") ? 2 : 1, depth_, token.Is("\\frac")});
  }

  void Argument(const MathToken& token) {
    if (std::exchange(negative_, false)) {
      result_.push_back({Kind::kSymbol, "{"});
      result_.push_back({Kind::kSymbol, "-"});
      result_.push_back(token);
      result_.push_back({Kind::kSymbol, "}"});
      return ArgumentDone();
    }
    if (token.kind != Kind::kNumber || !pending_.back().digits) {
      Wrap(token);
      return ArgumentDone();
    }
    std::string_view rest = token.text;
    while (!rest.empty() && Awaits() && IsDigit(rest[0])) {
      Wrap({Kind::kNumber, std::string(rest.substr(0, 1))});
      rest.remove_prefix(1);
      ArgumentDone();
    }
    if (!rest.empty()) result_.push_back({Kind::kNumber, std::string(rest)});
  }

  std::vector<Pending> pending_;
  std::size_t depth_ = 0;
  bool negative_ = false;
  std::vector<MathToken> result_;
};

}  // namespace

std::vector<MathToken> TokenizeMath(std::string_view text) {
  const std::string latex = UnicodeToLatex(text);
  return ArgumentBracer().Run(UnifyDegrees(Lexer(latex).Run()));
}

std::string JoinTokens(MathTokens tokens) {
  std::string text;
  for (const MathToken& token : tokens) text += token.text;
  return text;
}

}  // namespace swarr
