// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/check.h"
#include "task/words.h"

namespace swarr {
namespace {

using Names = std::array<bool, kNouns.size()>;

struct Mention {
  int name = 0;
  bool statement = false;
  bool right = false;
  int position = 0;  // of its token
};

// Places are indices of lexemes.
struct TraceLine {
  int name = 0;
  std::size_t begin = 0;   // of what follows "number of NAME"
  std::size_t result = 0;  // of the number
};

bool SaysTheSame(const Statement& a, Statement b) {
  if (a == b) return true;
  std::swap(b.first, b.second);
  return a.relation == Relation::kSum && a == b;
}

// Prompt and completion as one text, read twice: for the mentions, then for what the lines need of them.
class TraceReader {
 public:
  TraceReader(const WordProblem& problem, std::string_view text, std::size_t prompt_length,
              std::span<const std::size_t> starts)
      : solution_(Solve(problem)), asked_(problem.asked), lexemes_(Lexemes(text)), starts_(starts) {
    while (first_ < lexemes_.size() && lexemes_[first_].begin < prompt_length) ++first_;
    if (first_ < lexemes_.size()) measures_.length = Position(text.size() - 1) - Position(lexemes_[first_].begin) + 1;
  }

  WordMeasures Measure() {
    ReadMentions();
    for (const TraceLine& line : lines_) AddNeedsOf(line);
    AddNeedsOfAnswer();
    return measures_;
  }

 private:
  std::span<const Lexeme> From(std::size_t at) const {
    return std::span(lexemes_).subspan(std::min(at, lexemes_.size()));
  }
  bool Is(std::size_t at, std::string_view word) const { return at < lexemes_.size() && lexemes_[at].text == word; }
  int NounAt(std::size_t at) const { return at < lexemes_.size() ? lexemes_[at].noun : -1; }
  int NumberAt(std::size_t at) const { return at < lexemes_.size() ? lexemes_[at].number : -1; }

  // The position of the token that holds a byte.
  int Position(std::size_t byte) const {
    return static_cast<int>(std::ranges::upper_bound(starts_, byte) - starts_.begin()) - 1;
  }
  // A mention is there with the last token of its lexeme.
  int MentionedAt(std::size_t at) const { return Position(lexemes_[at].begin + lexemes_[at].text.size() - 1); }
  // The first token of a lexeme is predicted from the one before.
  int QueryOf(std::size_t at) const { return Position(lexemes_[at].begin) - 1; }

  const Statement* StatementOf(int name) const { return solution_.statements[static_cast<std::size_t>(name)]; }

  void MentionValue(int name, std::size_t at) {
    const bool right = StatementOf(name) && solution_.values[static_cast<std::size_t>(name)] == NumberAt(at);
    mentions_.push_back({.name = name, .right = right, .position = MentionedAt(at)});
  }

  void MentionStatement(const Statement& s, std::size_t at) {
    const bool right = StatementOf(s.name) && SaysTheSame(*StatementOf(s.name), s);
    mentions_.push_back({.name = s.name, .statement = true, .right = right, .position = MentionedAt(at)});
  }

  // Whether one was there.
  bool ReadItem(int name, std::size_t at, const std::optional<Statement>& statement) {
    if (statement) {
      MentionStatement(*statement, at);
    } else if (NumberAt(at) >= 0) {
      MentionValue(name, at);
    }
    return statement || NumberAt(at) >= 0;
  }

  void ReadMentions() {
    bool in_bracket = false;
    for (std::size_t i = 0; i < lexemes_.size(); ++i) {
      if (Is(i, "[") && i >= first_) ++measures_.brackets;
      if (Is(i, "[") || Is(i, "]")) in_bracket = Is(i, "[");
      const int name = NounAt(i);
      if (name < 0) continue;
      if (Is(i + 1, "are")) {
        ReadItem(name, i + 2, ReadTold(name, From(i + 2)));
      } else if (in_bracket) {
        measures_.carried += ReadItem(name, i + 1, ReadTerse(name, From(i + 1)));
      }
      if (i >= first_ + 2 && Is(i - 2, "number") && Is(i - 1, "of")) ReadLine(name, i + 1);
    }
    // The result of a line stands behind what is mentioned within it.
    std::ranges::stable_sort(mentions_, {}, &Mention::position);
  }

  void ReadLine(int name, std::size_t begin) {
    const auto statement = Is(begin, ":") ? ReadTerse(name, From(begin + 1)) : std::nullopt;
    if (statement) MentionStatement(*statement, begin + 1);
    const auto ends = [&](std::size_t at) {
      return Is(at, ".") || Is(at, "[") || Is(at, "####") || (Is(at, "number") && Is(at + 1, "of"));
    };
    for (std::size_t at = begin; at < lexemes_.size() && !ends(at); ++at) {
      if (!Is(at, "is") || NumberAt(at + 1) < 0) continue;
      lines_.push_back({name, begin, at + 1});
      MentionValue(name, at + 1);
      ++measures_.lines;
      measures_.local += statement.has_value();
      return;
    }
  }

  // The last mention at or before a query, or null.
  const Mention* LastMention(int query, int name, bool statement, bool right) const {
    for (std::size_t i = mentions_.size(); i-- > 0;) {
      const Mention& m = mentions_[i];
      if (m.name == name && m.statement == statement && m.position <= query && (m.right || !right)) return &m;
    }
    return nullptr;
  }

  bool AddNeed(int query, int name, bool statement) {
    const Mention* placed = LastMention(query, name, statement, /*right=*/false);
    const Mention* right = LastMention(query, name, statement, /*right=*/true);
    if (placed == nullptr) return false;
    measures_.needs.push_back({.statement = statement,
                               .placed = query - placed->position,
                               .right = right == nullptr ? -1 : query - right->position});
    return true;
  }

  // What the value of `name` takes at one query. `met` keeps what is shared from being counted twice.
  void AddNeedsOfValue(int query, int name, Names& met) {
    if (name < 0 || std::exchange(met[static_cast<std::size_t>(name)], true)) return;
    if (AddNeed(query, name, /*statement=*/false)) return;
    AddNeed(query, name, /*statement=*/true);
    AddNeedsOfValue(query, StatementOf(name)->first, met);
    AddNeedsOfValue(query, StatementOf(name)->second, met);
  }

  void AddNeedsOf(const TraceLine& line) {
    const Statement* s = StatementOf(line.name);
    if (s == nullptr) return;  // the problem has no such quantity
    Names met{};
    if (s->relation == Relation::kNumber) return AddNeedsOfValue(QueryOf(line.result), line.name, met);
    std::size_t begin = line.begin;
    while (NounAt(begin) < 0 && NumberAt(begin) < 0) ++begin;
    AddNeed(QueryOf(begin), line.name, /*statement=*/true);
    for (const int operand : {s->first, s->second}) {
      if (operand >= 0) AddNeedsOfValue(QueryOf(PlaceOfOperand(line, operand)), operand, met);
    }
  }

  std::size_t PlaceOfOperand(const TraceLine& line, int operand) const {
    for (std::size_t at = line.begin; at + 2 < line.result; ++at) {
      if (NounAt(at) == operand && Is(at + 1, "are") && NumberAt(at + 2) >= 0) return at + 2;
    }
    return line.result;
  }

  void AddNeedsOfAnswer() {
    for (std::size_t at = lexemes_.size(); at-- > first_;) {
      if (!Is(at, "####")) continue;
      if (NumberAt(at + 1) < 0) return;
      const int query = QueryOf(at + 1);
      Names met{};
      if (LastMention(query, asked_, /*statement=*/false, /*right=*/false) == nullptr) {
        AddNeedsOfValue(query, asked_, met);
      }
      return;
    }
  }

  const WordSolution solution_;
  const int asked_;
  const std::vector<Lexeme> lexemes_;
  const std::span<const std::size_t> starts_;
  std::size_t first_ = 0;  // lexeme of the completion
  std::vector<Mention> mentions_;
  std::vector<TraceLine> lines_;
  WordMeasures measures_;
};

}  // namespace

WordMeasures MeasureWords(const WordProblem& problem, std::string_view completion,
                          std::span<const std::size_t> starts) {
  const std::string prompt = PromptOf(problem);
  const std::string text = prompt + std::string(completion);
  return TraceReader(problem, text, prompt.size(), starts).Measure();
}

WordMeasures MeasureWords(const WordProblem& problem, std::string_view completion) {
  const std::string text = PromptOf(problem) + std::string(completion);
  std::vector<std::size_t> starts;
  for (const Lexeme& lexeme : Lexemes(text)) starts.push_back(lexeme.begin);
  return MeasureWords(problem, completion, starts);
}

bool InReach(const WordMeasures& measures, std::int64_t reach) {
  return std::ranges::all_of(measures.needs, [=](const WordNeed& need) { return need.placed <= reach; });
}

}  // namespace swarr
