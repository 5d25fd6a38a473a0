// SPDX-License-Identifier: Apache-2.0
#include "task/math/tokens.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "task/math/recurring.h"
#include "task/math/thousands.h"
#include "task/math/unicode_latex.h"
#include "task/math/words.h"

namespace swarr {
namespace {

using Kind = MathToken::Kind;

// Their argument is text.
constexpr std::string_view kTextCommands =
    R"(\text \mbox \hbox \textnormal \textrm \textup \textmd \textsc \textsl \textbf \textit \texttt \textsf \emph )"
    R"(\mathrm \operatorname)";
// Their argument stays a formula, and its braces go.
constexpr std::string_view kFontCommands =
    R"(\mathbf \mathit \mathsf \mathtt \mathnormal \boldsymbol \bm \pmb \underline \uline \ensuremath)";
// They go with their argument.
constexpr std::string_view kDroppedWithArgument = R"(\color \textcolor \hspace \vspace \label \tag)";
constexpr std::string_view kDropped =
    R"(\left \right \middle \big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \Biggl \Biggr \( \) \[ \] \! )"
    R"(\limits \nolimits \displaystyle \textstyle \scriptstyle \rm \bf \it \sf \tt \sc \sl \em \rmfamily \sffamily )"
    R"(\ttfamily \bfseries \mdseries \itshape \upshape \normalfont \tiny \scriptsize \footnotesize \small \normalsize )"
    R"(\large \Large \LARGE \huge \Huge \mathstrut \strut \displaylimits \nobreak \noindent \centering \relax )"
    R"(\nonumber \notag \/)";

constexpr std::string_view kSpaceCommands =  // beside "\ "
    R"(\, \; \: \> \_ \quad \qquad \enspace \enskip \thinspace \medspace \thickspace \space \nobreakspace \hfill)";

constexpr std::string_view kCommands =
    R"(\frac \dfrac \tfrac \cfrac \nicefrac \sfrac | \le \leq \leqq \leqslant | \ge \geq \geqq \geqslant | )"
    R"(\ne \neq | < \lt | > \gt | \{ \lbrace | \} \rbrace | ( \lparen | ) \rparen | [ \lbrack | ] \rbrack | )"
    R"(\vert \lvert \rvert | * \times \cdot \ast | / \div | % \% | & \& | # \# | \emptyset \varnothing | )"
    R"(\ldots \dots \cdots | \approx \simeq | \degree \deg \textdegree | \overline \bar | \$ \dollar \textdollar)";

// Relations that are typed with several characters.
constexpr std::string_view kTypedRelations = R"(\le <= | \ge >= | \ne != \not=)";

constexpr std::string_view kPlainWords = R"(\sqrt sqrt | \pi pi | \infty infinity Infinity)";

// Commands that are recognised with one backslash too many, as a text escaped twice has them.
constexpr std::string_view kEscapedTwice =
    "frac dfrac tfrac cfrac sqrt pi text textbf mathrm mathbf left right cdot times div pm cup cap in infty circ le "
    "leq "
    "ge geq ne neq approx quad overline bar theta alpha beta begin";

// Commands that take one argument, which need not stand in braces.
constexpr std::string_view kOneArgument =
    R"(^ _ \overline \vec \hat \dot \tilde \widehat \mathbb \mathcal \mathfrak \mathscr)";

constexpr std::string_view kEnvironments = "pmatrix bmatrix array matrix smallmatrix";

// 72.0 is 72, .50 is 0.5. Leading zeros of integers stay: 10:05 is not 10:5.
std::string CanonicalDigits(std::string_view whole, std::string_view fraction) {
  fraction = fraction.substr(0, fraction.find_last_not_of('0') + 1);
  std::string digits(whole.empty() ? "0" : whole);
  if (!fraction.empty()) digits.append(".").append(fraction);
  return digits;
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

class Lexer {
  static constexpr std::size_t kLongestName = 32;  // of an environment or a colour

 public:
  explicit Lexer(std::string_view text) : text_(text), one_dollar_(std::count(text.begin(), text.end(), '$') == 1) {}

  std::vector<MathToken> Run() {
    while (at_ < text_.size()) Next();
    return std::move(tokens_);
  }

 private:
  enum class Group { kBraces, kFont, kText };

  char Peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  std::string_view Rest(std::size_t ahead = 0) const { return text_.substr(std::min(at_ + ahead, text_.size())); }
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
    std::size_t degree = 0;
    for (const char* circle : {"\\circ", "\\degree"}) {
      if (EndsWith({"^", circle})) degree = 2;
      if (EndsWith({"^", "{", circle, "}"})) degree = 4;
    }
    if (degree == 0) return;
    tokens_.erase(tokens_.end() - static_cast<std::ptrdiff_t>(degree), tokens_.end());
    tokens_.push_back({Kind::kCommand, "\\degree"});
  }
  bool EndsWith(std::initializer_list<std::string_view> spellings) const {
    return tokens_.size() >= spellings.size() &&
           std::equal(spellings.begin(), spellings.end(), tokens_.end() - static_cast<std::ptrdiff_t>(spellings.size()),
                      [](std::string_view spelling, const MathToken& token) { return token.Is(spelling); });
  }

  // The spelling in kTypedRelations that comes next, empty if none. Behind a digit "!" is a factorial: 5!=120.
  std::string_view TypedRelation() const {
    for (const std::string_view typed : {"<=", ">=", "!=", "\\not="}) {
      const bool factorial = typed[0] == '!' && at_ > 0 && IsDigit(text_[at_ - 1]);
      if (Rest().starts_with(typed) && !factorial) return typed;
    }
    return "";
  }

  void Next() {
    const char c = Peek();
    if (tokens_.empty() && Rest().starts_with("~~")) {
      Emit(Kind::kSymbol, Take(2));  // Markdown's way to strike out
    } else if (IsSpace(c) || c == '~') {
      space_ = true;
      ++at_;
    } else if (const std::string_view typed = TypedRelation(); !typed.empty()) {
      Emit(Kind::kCommand, MeaningOf(Take(typed.size()), kTypedRelations));
    } else if (c == '\\' && at_ + 1 < text_.size()) {
      Command();
    } else if (IsDigit(c) || IsPoint()) {
      NumberToken();
    } else if (IsLetter(c)) {
      const std::string_view word = TakeWhile(IsLetter);
      const std::string_view known = text_groups_ > 0 ? "\\infty infinity Infinity" : kPlainWords;
      const std::string_view command = MeaningOf(word, known, word);
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
    if (symbol == "{") groups_.push_back(Group::kBraces);
    if (symbol == "}" && !groups_.empty()) {
      const Group closed = groups_.back();
      groups_.pop_back();
      text_groups_ -= closed == Group::kText;
      if (closed != Group::kBraces) return;
    }
    Emit(Kind::kSymbol, symbol);
  }

  // Skips the first of two backslashes before a command. In a matrix they end a row.
  void SkipDoubledBackslash() {
    const std::string_view name =
        Rest(2).substr(0, static_cast<std::size_t>(std::ranges::find_if_not(Rest(2), IsLetter) - Rest(2).begin()));
    if (Peek(1) == '\\' && environments_ <= 0 && HasWord(kEscapedTwice, name)) ++at_;
  }

  void Command() {
    SkipDoubledBackslash();
    const std::size_t begin = at_++;
    if (TakeWhile(IsLetter).empty()) ++at_;
    const std::string_view name = text_.substr(begin, at_ - begin);
    const bool text = HasWord(kTextCommands, name);
    if (text || HasWord(kFontCommands, name)) {
      TakeWhile(IsSpace);
      if (Peek() != '{') return;
      ++at_;
      groups_.push_back(text ? Group::kText : Group::kFont);
      text_groups_ += text;
    } else if (HasWord(kDroppedWithArgument, name)) {
      if (Peek() == '*') ++at_;  // \hspace*
      TakeBracketed('{', '}', kLongestName);
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
    environments_ += command == "\\begin" ? 1 : -1;
    std::string_view name = TakeBracketed('{', '}', kLongestName);
    if (!name.empty()) name = name.substr(1, name.size() - 2);
    if (name == "array" && command == "\\begin") TakeBracketed('{', '}', kLongestName);
    Emit(Kind::kCommand, std::string(command) + "{" + std::string(MeaningOf(name, kEnvironments, name)) + "}");
  }

  bool IsThousands(std::string_view separator) const { return BeginsWithThousands(Rest(), separator); }

  // The separator of thousands that follows, empty if none. A plain comma within brackets separates elements.
  std::string_view ThousandsSeparator() const {
    if (brackets_ <= 0 && IsThousands(",")) return ",";
    for (const std::string_view separator : kThousandsSeparators) {
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
    if (IsPoint()) {
      ++at_;
      fraction = TakeWhile(IsDigit);
      if (const Cycle cycle = CycleAt(Rest()); cycle.bytes > 0) {
        at_ += cycle.bytes;
        const std::string digits = CanonicalDigits(whole, "") + "." + std::string(fraction);
        return Emit(Kind::kNumber, digits + "(" + cycle.digits + ")");
      }
    }
    if (EndsWith({"\\frac"})) return Emit(Kind::kNumber, text_.substr(begin, at_ - begin));
    const std::string written = fraction.empty() ? whole : whole + "." + std::string(fraction);
    Emit(Kind::kNumber, KeepsZeros() ? written : CanonicalDigits(whole, fraction));
  }

  // Whether the zeros at the end of the number that ends here stay: they have a meaning before digits that recur in
  // whatever notation.
  bool KeepsZeros() const {
    const std::string_view next = Rest().substr(std::min(Rest().find_first_not_of(kSpaces), Rest().size()));
    const bool goes_on = next.starts_with("..") || next.starts_with("\\ldots") || next.starts_with("\\dots") ||
                         next.starts_with("\\cdots") || next.starts_with("repeating") || next.starts_with("recurring");
    const bool marked = (Peek() == '\\' && IsLetter(Peek(1))) || std::string_view("[{(").find(Peek()) < 3;
    return goes_on || marked;
  }

  // Whether the point of a decimal comes next.
  bool IsPoint() const { return Peek() == '.' && (IsDigit(Peek(1)) || CycleAt(Rest(1)).bytes > 0); }

  std::string_view text_;
  std::size_t at_ = 0;
  bool one_dollar_;            // a lone dollar sign before a number is money; all others delimit mathematics
  bool space_ = false;         // one came since the last token
  std::vector<Group> groups_;  // the open braces
  std::int64_t text_groups_ = 0, brackets_ = 0, environments_ = 0;
  std::vector<MathToken> tokens_;
};

// Puts the arguments of ^, _, \frac, \sqrt and kOneArgument in braces, and drops empty braces.
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
      if (!Awaits() && !result_.empty() && result_.back().Is("{")) return result_.pop_back();  // {} says nothing
      result_.push_back(token);
      if (Awaits()) ArgumentDone();
      return;
    }
    if (token.Is("{")) {
      ++depth_;
      result_.push_back(token);
      return;
    }
    const bool opens = token.Is("\\frac") || HasWord(kOneArgument, token.text) || token.text.starts_with("\\sqrt");
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
  for (const MathToken& token : tokens) {
    const bool joins = token.kind == Kind::kNumber && !text.empty() && (IsDigit(text.back()) || text.back() == '.');
    text += (joins ? " " : "") + token.text;  // 5 6 is not 56
  }
  return text;
}

}  // namespace swarr
