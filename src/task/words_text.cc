// SPDX-License-Identifier: Apache-2.0
// Word problems as texts: how they and their solutions are written, read, and judged.
#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "task/math/words.h"
#include "task/words.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

constexpr std::string_view kMark = "####";

std::string NounOf(int name) { return std::string(kNouns[static_cast<std::size_t>(name)]); }

std::string_view OperatorOf(Relation relation) {
  switch (relation) {
    case Relation::kMore:
    case Relation::kSum:
      return "plus";
    case Relation::kFewer:
      return "minus";
    case Relation::kTimes:
      return "times";
    case Relation::kNumber:
      break;
  }
  throw Error("words: a number of its own has no operator");
}

// "foxes plus 5", "hens plus bees".
std::string TerseRelation(const Statement& s) {
  const std::string second = s.relation == Relation::kSum ? NounOf(s.second) : std::to_string(s.k);
  return Concat(NounOf(s.first), ' ', OperatorOf(s.relation), ' ', second);
}

std::string ToldRelation(const Statement& s) {
  switch (s.relation) {
    case Relation::kNumber:
      return std::to_string(s.k);
    case Relation::kMore:
      return Concat(s.k, " more than ", NounOf(s.first));
    case Relation::kFewer:
      return Concat(s.k, " fewer than ", NounOf(s.first));
    case Relation::kTimes:
      return Concat(s.k, " times ", NounOf(s.first));
    case Relation::kSum:
      return TerseRelation(s);
  }
  return {};
}

// The lines of one problem.
class LineWriter {
 public:
  explicit LineWriter(const WordSolution& solution) : solution_(solution) {}

  std::string Line(int name, bool local) const {
    std::string text = " next, we work out the number of " + NounOf(name);
    if (local) text += Work(StatementOf(name));
    return Concat(text, ", which is ", ValueOf(name), '.');
  }

  // What the line number `from` and those after it need: values that no such line computes, in the order in which they
  // are needed, then statements, in the order of the lines.
  std::string Bracket(std::size_t from) const {
    const std::span<const int> coming = std::span(solution_.lines).subspan(from);
    std::vector<int> met(coming.begin(), coming.end());
    std::string values, statements;
    for (const int line : coming) {
      const Statement& s = StatementOf(line);
      for (const int operand : {s.first, s.second}) {
        if (operand < 0 || std::ranges::find(met, operand) != met.end()) continue;
        met.push_back(operand);
        values += Concat(NounOf(operand), ' ', ValueOf(operand), "; ");
      }
      statements += TerseOf(s) + "; ";
    }
    const std::string items = values + statements;
    return " [ " + items.substr(0, items.size() - 2) + " ]";
  }

 private:
  // ": foxes plus 5, where foxes are 3, so 3 plus 5"
  std::string Work(const Statement& s) const {
    std::string where = Concat(NounOf(s.first), " are ", ValueOf(s.first));
    const bool sum = s.relation == Relation::kSum;
    if (sum) where += Concat(" and ", NounOf(s.second), " are ", ValueOf(s.second));
    const int second = sum ? ValueOf(s.second) : s.k;
    return Concat(": ", TerseRelation(s), ", where ", where, ", so ", ValueOf(s.first), ' ', OperatorOf(s.relation),
                  ' ', second);
  }

  int ValueOf(int name) const { return solution_.values[static_cast<std::size_t>(name)]; }
  const Statement& StatementOf(int name) const { return *solution_.statements[static_cast<std::size_t>(name)]; }

  const WordSolution& solution_;
};

bool IsSmallLetter(char c) { return c >= 'a' && c <= 'z'; }

// The bytes of the lexeme at the start of `text`.
std::size_t LexemeLength(std::string_view text) {
  const auto run = [&](std::size_t from, auto&& belongs) {
    return static_cast<std::size_t>(
        std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(), belongs) - text.begin());
  };
  if (text.starts_with(kMark)) return kMark.size();
  if (IsDigit(text[0])) return run(0, IsDigit);
  const bool letter = IsSmallLetter(text[0]) || (text[0] >= 'A' && text[0] <= 'Z');
  return letter ? run(1, IsSmallLetter) : 1;
}

int NumberOf(std::string_view digits) {
  constexpr int kLarge = 1000000;
  int value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() ? std::min(value, kLarge) : kLarge;
}

std::string_view WithoutSpacesAround(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

// As AnswerOf writes them.
bool IsAnswer(std::string_view text) {
  return !text.empty() && text.size() <= 9 && std::ranges::all_of(text, IsDigit) && text[0] != '0';
}

}  // namespace

std::vector<std::string> WordPieces() {
  std::vector<std::string> pieces = {"Given"};
  for (const char sign : std::string_view(",.:;?")) pieces.emplace_back(1, sign);
  for (const char* word :
       {"[",    "]",  "####", "are", "more", "than",   "fewer", "times", "plus", "minus", "how",   "many",
        "next", "we", "work", "out", "the",  "number", "of",    "where", "and",  "so",    "which", "is"}) {
    pieces.push_back(Concat(' ', word));
  }
  for (const std::string_view noun : kNouns) pieces.push_back(Concat(' ', noun));
  for (int number = 1; number <= kMostValue; ++number) pieces.push_back(Concat(' ', number));
  return pieces;
}

std::string PromptOf(const WordProblem& problem) {
  std::string text = "Given";
  for (const Statement& s : problem.statements) text += Concat(' ', NounOf(s.name), " are ", ToldRelation(s), ';');
  return Concat(text, " how many ", NounOf(problem.asked), '?');
}

std::string AnswerOf(const WordProblem& problem) {
  return std::to_string(Solve(problem).values[static_cast<std::size_t>(problem.asked)]);
}

std::string TerseOf(const Statement& s) {
  return Concat(NounOf(s.name), ' ', s.relation == Relation::kNumber ? std::to_string(s.k) : TerseRelation(s));
}

std::string TraceOf(const WordProblem& problem, const WordShares& shares, std::uint64_t stream_key) {
  const WordSolution solution = Solve(problem);
  const LineWriter writer(solution);
  PhiloxStream stream(stream_key);
  std::string text;
  for (std::size_t i = 0; i < solution.lines.size(); ++i) {
    if (stream.NextUniform() < shares.carry) text += writer.Bracket(i);
    text += writer.Line(solution.lines[i], stream.NextUniform() < shares.local);
  }
  return Concat(text, ' ', kMark, ' ', solution.values[static_cast<std::size_t>(problem.asked)]);
}

std::vector<Lexeme> Lexemes(std::string_view text) {
  std::vector<Lexeme> lexemes;
  for (std::size_t at = 0; at < text.size();) {
    if (IsSpace(text[at])) {
      ++at;
      continue;
    }
    Lexeme lexeme{.text = text.substr(at, LexemeLength(text.substr(at))), .begin = at};
    const auto noun = std::ranges::find(kNouns, lexeme.text);
    if (noun != kNouns.end()) lexeme.noun = static_cast<int>(noun - kNouns.begin());
    if (IsDigit(text[at])) lexeme.number = NumberOf(lexeme.text);
    lexemes.push_back(lexeme);
    at += lexeme.text.size();
  }
  return lexemes;
}

std::optional<Statement> ReadTerse(int name, std::span<const Lexeme> l) {
  if (l.size() < 3 || l[0].noun < 0) return std::nullopt;
  const int first = l[0].noun, k = l[2].number, second = l[2].noun;
  if (l[1].text == "plus" && second >= 0) return Statement{name, Relation::kSum, 0, first, second};
  if (k < 0) return std::nullopt;
  if (l[1].text == "plus") return Statement{name, Relation::kMore, k, first};
  if (l[1].text == "minus") return Statement{name, Relation::kFewer, k, first};
  if (l[1].text == "times") return Statement{name, Relation::kTimes, k, first};
  return std::nullopt;
}

std::optional<Statement> ReadTold(int name, std::span<const Lexeme> l) {
  if (l.size() < 3) return std::nullopt;
  if (l[0].noun >= 0) return l[2].noun >= 0 ? ReadTerse(name, l) : std::nullopt;
  const int k = l[0].number;
  if (k < 0) return std::nullopt;
  if (l[1].text == "times" && l[2].noun >= 0) return Statement{name, Relation::kTimes, k, l[2].noun};
  if (l.size() < 4 || l[2].text != "than" || l[3].noun < 0) return std::nullopt;
  if (l[1].text == "more") return Statement{name, Relation::kMore, k, l[3].noun};
  if (l[1].text == "fewer") return Statement{name, Relation::kFewer, k, l[3].noun};
  return std::nullopt;
}

Score VerifyWords(std::string_view gold, std::string_view completion, bool finished) {
  SWARR_CHECK(IsAnswer(gold) && NumberOf(gold) <= kMostValue, "words: the gold answer is \"", gold,
              "\"; give a number from 1 to ", kMostValue, ".");
  if (!finished) return {0, "truncated"};
  if (completion.rfind(kMark) == std::string_view::npos) return {0, "no '####'"};
  const std::string answer = ExtractWordsAnswer(completion);
  if (!IsAnswer(answer)) return {0, "not one number after the last '####'"};
  return answer == gold ? Score{1, "correct"} : Score{0, "wrong number"};
}

std::string ExtractWordsAnswer(std::string_view completion) {
  const std::size_t mark = completion.rfind(kMark);
  return mark == std::string_view::npos ? std::string()
                                        : std::string(WithoutSpacesAround(completion.substr(mark + kMark.size())));
}

}  // namespace swarr
