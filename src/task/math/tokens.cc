// SPDX-License-Identifier: Apache-2.0
#include "task/math/tokens.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "task/math/words.h"
#include "text/unicode.h"

namespace swarr {
namespace {

using Kind = MathToken::Kind;

constexpr std::string_view kTextCommands =
    R"(\text \mbox \hbox \textnormal \textrm \textbf \textit \texttt \textsf \mathrm \mathbf \mathit \mathsf \mathtt )"
    R"(\operatorname \emph \boldsymbol \bm)";

constexpr std::string_view kDropped =
    R"(\left \right \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \( \) \[ \] \! \limits \displaystyle \textstyle )"
    R"(\rm \bf \it \mathstrut)";

constexpr std::string_view kSpaceCommands = R"(\, \; \: \> \_ \quad \qquad \enspace \thinspace)";  // beside "\ "

constexpr std::string_view kCommands =
    R"(\frac \dfrac \tfrac \cfrac | \le \leq \leqslant | \ge \geq \geqslant | \ne \neq | < \lt | > \gt | )"
    R"(\{ \lbrace | \} \rbrace | ( \lparen | ) \rparen | [ \lbrack | ] \rbrack | * \times \cdot \ast | / \div | )"
    R"(% \% | & \& | # \# | \emptyset \varnothing | \ldots \dots \cdots | \$ \dollar)";

constexpr std::string_view kPlainWords = R"(\sqrt sqrt | \pi pi | \infty infinity)";

constexpr std::string_view kEnvironments = "pmatrix bmatrix array matrix smallmatrix";

constexpr std::string_view kUnicode =
    "- \u2212 \u2010 \u2011 \u2012 \u2013 \u2014 | / \u2044 \u2215 | \\times \u00d7 | \\cdot \u00b7 \u22c5 | "
    "\\div \u00f7 | \\pi \u03c0 | \\sqrt \u221a | \\degree \u00b0 | \\infty \u221e | \\le \u2264 | \\ge \u2265 | "
    "\\ne \u2260 | \\pm \u00b1 | \\mp \u2213 | \\cup \u222a | \\cap \u2229 | \\in \u2208 | \\emptyset \u2205 | "
    "^2 \u00b2 | ^3 \u00b3 | \\frac{1}{2} \u00bd | \\frac{1}{4} \u00bc | \\frac{3}{4} \u00be | \\frac{1}{3} \u2153 | "
    "\\frac{2}{3} \u2154 | \\theta \u03b8 | \\alpha \u03b1 | \\beta \u03b2 | \\ldots \u2026";
constexpr std::string_view kBlanks = "\u00a0 \u2009 \u202f \u200a \u2002 \u2003 \u3000";
constexpr std::string_view kInvisible = "\u200b \ufeff";

// A character beyond ASCII in the spelling of LaTeX: minus signs and dashes as '-', full-width forms as ASCII, and
// signs such as the square root or pi as commands. Other characters stay as they are.
std::string ToLatex(char32_t code, std::string_view character) {
  constexpr char32_t kFullWidth = 0xFF01;  // '!', the first of 94 in the order of ASCII
  if (code >= kFullWidth && code <= kFullWidth + ('~' - '!')) {
    return std::string(1, static_cast<char>('!' + (code - kFullWidth)));
  }
  if (HasWord(kBlanks, character)) return " ";
  if (HasWord(kInvisible, character)) return "";
  std::string latex(MeaningOf(character, kUnicode, character));
  if (IsLetter(latex.back()) || IsDigit(latex.back())) latex += ' ';  // what follows does not belong to \pi or ^2
  return latex;
}

// Bytes that are no UTF-8 stay as they are.
std::string UnicodeToLatex(std::string_view text) {
  std::string latex;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = UnitAt(text, at);
    const std::string_view bytes = text.substr(at, unit.bytes);
    latex += unit.code < 0x80 ? std::string(bytes) : ToLatex(unit.code, bytes);  // 0 if it is no character
    at += unit.bytes;
  }
  return latex;
}

// 007 is 7, 72.0 is 72, .50 is 0.5.
std::string CanonicalDigits(std::string_view whole, std::string_view fraction) {
  whole.remove_prefix(std::min(whole.find_first_not_of('0'), whole.size()));
  fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
  std::string digits(whole.empty() ? "0" : whole);
  if (!fraction.empty()) digits.append(".").append(fraction);
  return digits;
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text), one_dollar_(std::count(text.begin(), text.end(), '$') == 1) {}

  std::vector<MathToken> Run() {
    while (at_ < text_.size()) Next();
    return std::move(tokens_);
  }

 private:
  char Peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  std::string_view Take(std::size_t bytes) {
    const std::string_view taken = text_.substr(at_, bytes);
    at_ += taken.size();
    return taken;
  }
  std::string_view TakeWhile(bool (*belongs)(char)) {
    std::size_t bytes = 0;
    while (at_ + bytes < text_.size() && belongs(Peek(bytes))) ++bytes;
    return Take(bytes);
  }
  // What stands between brackets that begin here, with the brackets; nothing if they are longer than `most` bytes.
  std::string_view TakeBracketed(char open, char close, std::size_t most) {
    const std::size_t end = Peek() == open ? text_.substr(at_, most).find(close) : std::string_view::npos;
    return end == std::string_view::npos ? "" : Take(end + 1);
  }

  void Emit(Kind kind, std::string_view text) {
    brackets_ += HasWord("( [ \\{", text) ? 1 : HasWord(") ] \\}", text) ? -1 : 0;
    tokens_.push_back({kind, std::string(text), std::exchange(space_, false), text_groups_ > 0});
    // 90^\circ is 90 followed by \degree.
    const std::size_t degree = EndsWith({"^", "\\circ"}) ? 2 : EndsWith({"^", "{", "\\circ", "}"}) ? 4 : 0;
    if (degree == 0) return;
    tokens_.erase(tokens_.end() - static_cast<std::ptrdiff_t>(degree), tokens_.end());
    tokens_.push_back({Kind::kCommand, "\\degree"});
  }
  bool EndsWith(std::initializer_list<std::string_view> spellings) const {
    return tokens_.size() >= spellings.size() &&
           std::equal(spellings.begin(), spellings.end(), tokens_.end() - static_cast<std::ptrdiff_t>(spellings.size()),
                      [](std::string_view spelling, const MathToken& token) { return token.Is(spelling); });
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
      const std::string_view word = TakeWhile(IsLetter);
      const std::string_view command = text_groups_ > 0 ? word : MeaningOf(word, kPlainWords, word);
      Emit(command == word ? Kind::kWord : Kind::kCommand, command);
    } else {
      Symbol();
    }
  }

  void Symbol() {
    std::size_t bytes = 1;
    while (static_cast<unsigned char>(Peek()) >= 0xC0 && bytes < 4 && IsContinuation(Peek(bytes))) ++bytes;
    const std::string_view symbol = Take(bytes);
    if (symbol == "$") {
      if (one_dollar_ && (IsDigit(Peek()) || Peek() == '.')) Emit(Kind::kCommand, "\\$");
      return;
    }
    if (symbol == "{") groups_.push_back(false);
    if (symbol == "}" && !groups_.empty()) {
      const bool was_text = groups_.back();
      groups_.pop_back();
      text_groups_ -= was_text;
      if (was_text) return;
    }
    Emit(Kind::kSymbol, symbol);
  }

  void Command() {
    const std::size_t begin = at_++;
    if (TakeWhile(IsLetter).empty()) ++at_;
    const std::string_view name = text_.substr(begin, at_ - begin);
    if (HasWord(kTextCommands, name)) {
      TakeWhile(IsSpace);
      if (Peek() != '{') return;
      ++at_;
      groups_.push_back(true);
      ++text_groups_;
    } else if (name == "\\ " || HasWord(kSpaceCommands, name)) {
      space_ = true;
    } else if (HasWord(kDropped, name)) {
      const bool needs_delimiter = name == "\\left" || name == "\\right";
      if (needs_delimiter && Peek() == '.') ++at_;  // the invisible one
    } else if (name == "\\begin" || name == "\\end") {
      Environment(name);
    } else if (name == "\\sqrt") {  // \sqrt[3] is one command
      const std::string_view index = TakeBracketed('[', ']', 8);
      Emit(Kind::kCommand, "\\sqrt" + std::string(index == "[2]" ? "" : index));
    } else {
      const std::string_view spelling = MeaningOf(name, kCommands, name);
      Emit(spelling[0] == '\\' ? Kind::kCommand : Kind::kSymbol, spelling);
    }
  }

  // \begin{array}{cc} is one command, \begin{pmatrix}.
  void Environment(std::string_view command) {
    constexpr std::size_t kLongestName = 32;
    std::string_view name = TakeBracketed('{', '}', kLongestName);
    if (!name.empty()) name = name.substr(1, name.size() - 2);
    if (name == "array" && command == "\\begin") TakeBracketed('{', '}', kLongestName);
    Emit(Kind::kCommand, std::string(command) + "{" + std::string(MeaningOf(name, kEnvironments, name)) + "}");
  }

  // Whether `separator` and exactly three digits come next.
  bool IsThousands(std::string_view separator) const {
    const std::size_t n = separator.size();
    return text_.substr(at_).starts_with(separator) && IsDigit(Peek(n)) && IsDigit(Peek(n + 1)) &&
           IsDigit(Peek(n + 2)) && !IsDigit(Peek(n + 3));
  }

  // The separator of thousands that follows, empty if none. A plain comma within brackets separates elements.
  std::string_view ThousandsSeparator() const {
    if (brackets_ <= 0 && IsThousands(",")) return ",";
    for (const std::string_view separator : {"{,}", ",\\!", ",\\,", " ", "\\,", "\\ ", "~", "\\!"}) {
      if (IsThousands(separator)) return separator;
    }
    return "";
  }

  void NumberToken() {
    const std::size_t begin = at_;
    std::string whole(TakeWhile(IsDigit));
    if (!whole.empty() && whole.size() <= 3 && whole[0] != '0') {
      const std::size_t first_group = whole.size();
      const std::string_view separator = ThousandsSeparator();
      while (!separator.empty() && IsThousands(separator)) whole += Take(separator.size() + 3).substr(separator.size());
      // 1 125/126 is a mixed number.
      const std::size_t next = text_.find_first_not_of(kSpaces, at_);
      if (separator == " " && next != std::string_view::npos && text_[next] == '/') {
        whole.resize(first_group);
        at_ = begin + first_group;
      }
    }
    std::string_view fraction;
    if (Peek() == '.' && IsDigit(Peek(1))) {
      ++at_;
      fraction = TakeWhile(IsDigit);
    }
    // The arguments of an unbraced \frac are single digits, so they stay as they are written.
    if (EndsWith({"\\frac"})) return Emit(Kind::kNumber, text_.substr(begin, at_ - begin));
    Emit(Kind::kNumber, CanonicalDigits(whole, fraction));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool one_dollar_;           // a lone dollar sign before a number is money; all others delimit mathematics
  bool space_ = false;        // one came since the last token
  std::vector<bool> groups_;  // the open braces; true for those of \text
  std::int64_t text_groups_ = 0, brackets_ = 0;
  std::vector<MathToken> tokens_;
};

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
  void Symbol(std::string_view text) { result_.push_back({Kind::kSymbol, std::string(text)}); }

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
    const bool opens = HasWord("\\frac ^ _", token.text) || token.text.starts_with("\\sqrt");
    if (Awaits()) {
      if (opens || HasWord("( [ \\{", token.text)) {
        pending_.pop_back();  // no single token: left as it is
      } else if (token.Is("-") && !pending_.back().digits && next != nullptr && next->kind == Kind::kNumber) {
        negative_ = true;  // 10^-3
        return;
      } else {
        return pending_.back().digits && token.kind == Kind::kNumber ? DigitArguments(token.text) : Argument(token);
      }
    }
    result_.push_back(token);
    if (opens) pending_.push_back({token.Is("\\frac") ? 2 : 1, depth_, token.Is("\\frac")});
  }

  void Argument(const MathToken& token) {
    Symbol("{");
    if (std::exchange(negative_, false)) Symbol("-");
    result_.push_back(token);
    Symbol("}");
    ArgumentDone();
  }

  void DigitArguments(std::string_view digits) {
    for (; !digits.empty() && Awaits() && IsDigit(digits[0]); digits.remove_prefix(1)) {
      Argument({Kind::kNumber, std::string(digits.substr(0, 1))});
    }
    if (!digits.empty()) result_.push_back({Kind::kNumber, std::string(digits)});
  }

  std::vector<Pending> pending_;
  std::size_t depth_ = 0;
  bool negative_ = false;
  std::vector<MathToken> result_;
};

}  // namespace

std::vector<MathToken> TokenizeMath(std::string_view text) {
  const std::string latex = UnicodeToLatex(text);
  return ArgumentBracer().Run(Lexer(latex).Run());
}

std::string JoinTokens(MathTokens tokens) {
  std::string text;
  for (const MathToken& token : tokens) text += token.text;
  return text;
}

}  // namespace swarr
