// SPDX-License-Identifier: Apache-2.0
#include "task/words.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

// Fixes the problems and their splits; a different value makes old models see their evaluation problems in training.
constexpr std::uint64_t kWordsKey = 0x776F7264732D3031;

// Numbers that are told are uniform over these ranges.
struct WordRange {
  int least, most;
};
constexpr WordRange kOwnNumbers = {2, 25}, kDifferences = {2, 15}, kFactors = {2, 5};

bool IsNoun(int name) { return name >= 0 && name < static_cast<int>(kNouns.size()); }
bool IsValue(int value) { return value >= 1 && value <= kMostValue; }

// The value of a statement, given those of its operands.
int Evaluate(const Statement& s, int first, int second) {
  switch (s.relation) {
    case Relation::kNumber:
      return s.k;
    case Relation::kMore:
      return first + s.k;
    case Relation::kFewer:
      return first - s.k;
    case Relation::kTimes:
      return first * s.k;
    case Relation::kSum:
      return first + second;
  }
  return 0;
}

void CheckStatement(const Statement& s) {
  const bool one = s.relation != Relation::kNumber, two = s.relation == Relation::kSum;
  const bool shaped = IsNoun(s.name) && IsNoun(s.first) == one && IsNoun(s.second) == two && IsValue(s.k) != two;
  SWARR_CHECK(shaped, "words: a statement names what is no quantity, or its number is outside 1..", kMostValue);
  SWARR_CHECK(!two || s.first != s.second, "words: ", kNouns[static_cast<std::size_t>(s.name)],
              " are the sum of one quantity with itself");
}

// Computes values depth first, which is the order of need.
class Solver {
 public:
  explicit Solver(const WordProblem& problem) {
    for (const Statement& s : problem.statements) {
      CheckStatement(s);
      const Statement*& place = solution.statements[static_cast<std::size_t>(s.name)];
      SWARR_CHECK(place == nullptr, "words: ", kNouns[static_cast<std::size_t>(s.name)], " are stated twice");
      place = &s;
    }
  }

  int ValueOf(int name) {
    const auto at = static_cast<std::size_t>(name);
    const Statement* s = solution.statements[at];
    SWARR_CHECK(s != nullptr, "words: nothing is said of ", kNouns[at]);
    if (solution.values[at] != 0) return solution.values[at];
    SWARR_CHECK(!std::exchange(begun_[at], true), "words: ", kNouns[at], " depend on themselves");
    const int first = s->first < 0 ? 0 : ValueOf(s->first);
    const int second = s->second < 0 ? 0 : ValueOf(s->second);
    const int value = Evaluate(*s, first, second);
    SWARR_CHECK(IsValue(value), "words: ", kNouns[at], " are ", value, ", which is outside 1..", kMostValue);
    if (s->relation != Relation::kNumber) solution.lines.push_back(name);
    return solution.values[at] = value;
  }

  WordSolution solution;

 private:
  std::array<bool, kNouns.size()> begun_{};
};

// A problem as it is drawn, line by line; names are indices of `statements` until all are there.
class Draft {
 public:
  explicit Draft(PhiloxStream& stream) : stream_(stream) {}

  // Adds a quantity that the solution has a line for, `left` lines before the last. Returns, like the next, whether all
  // values are in range. Each later line can join two results that nothing uses yet, so left + 1 of them may be open
  // after this one. One less is allowed, or nearly all problems with two branches would end in a sum.
  bool AddLine(int left) {
    const int unused = static_cast<int>(unused_.size()), most = std::max(left, 1);
    const bool join = unused > most, branch = unused < most;
    const bool goes_on = unused > 0 && stream_.NextUniform() < kGoOn;
    const int first = join || !branch || goes_on ? TakeUnused() : TakeAny(-1);
    const Relation relation = join ? Relation::kSum : DrawRelation();
    int second = -1;
    if (relation == Relation::kSum) {
      const bool joins = join || (!unused_.empty() && stream_.NextUniform() < kJoin);
      second = joins ? TakeUnused() : TakeAny(first);
    }
    unused_.push_back(static_cast<int>(statements_.size()));
    return Add(relation, first, second);
  }

  bool AddDistractor() {
    if (stream_.NextUniform() < kPlainDistractor) return Add(Relation::kNumber, -1, -1);
    const Relation relation = DrawRelation();
    const int first = AnyBut(-1);
    return Add(relation, first, relation == Relation::kSum ? AnyBut(first) : -1);
  }

  int last() const { return static_cast<int>(statements_.size()) - 1; }

  // With names and in an order drawn last. Nothing if there are more quantities than names.
  std::optional<WordProblem> Tell(int asked) {
    if (statements_.size() > kNouns.size()) return std::nullopt;
    std::array<int, kNouns.size()> names{};
    std::iota(names.begin(), names.end(), 0);
    Shuffle(names);
    const auto name_of = [&](int index) { return index < 0 ? -1 : names[static_cast<std::size_t>(index)]; };
    WordProblem problem{.statements = statements_, .asked = name_of(asked)};
    for (Statement& s : problem.statements) {
      s.name = name_of(s.name);
      s.first = name_of(s.first);
      s.second = name_of(s.second);
    }
    Shuffle(problem.statements);
    return problem;
  }

 private:
  static constexpr double kGoOn = 0.8;                       // that a line starts from a result that nothing has used
  static constexpr double kJoin = 0.5;                       // that a sum adds another such result, if there is one
  static constexpr double kNewNumber = 0.6;                  // that any other operand is a new number
  static constexpr double kPlainDistractor = 0.5;            // that a distractor is a number of its own
  static constexpr double kSums = 0.25, kDifference = 0.25;  // of the relations; the rest multiplies

  int Between(WordRange range) {
    return range.least + static_cast<int>(stream_.NextBelow(static_cast<std::uint32_t>(range.most - range.least + 1)));
  }

  Relation DrawRelation() {
    const double u = stream_.NextUniform();
    if (u < kSums) return Relation::kSum;
    if (u < kSums + kDifference) return Relation::kMore;
    return u < kSums + 2 * kDifference ? Relation::kFewer : Relation::kTimes;
  }

  int NumberIn(Relation relation) {
    switch (relation) {
      case Relation::kNumber:
        return Between(kOwnNumbers);
      case Relation::kMore:
      case Relation::kFewer:
        return Between(kDifferences);
      case Relation::kTimes:
        return Between(kFactors);
      case Relation::kSum:
        return 0;
    }
    return 0;
  }

  bool Add(Relation relation, int first, int second) {
    const auto value_of = [&](int index) { return index < 0 ? 0 : values_[static_cast<std::size_t>(index)]; };
    const Statement s{static_cast<int>(statements_.size()), relation, NumberIn(relation), first, second};
    statements_.push_back(s);
    values_.push_back(Evaluate(s, value_of(first), value_of(second)));
    return IsValue(values_.back());
  }

  int TakeUnused() {
    const std::uint32_t at = stream_.NextBelow(static_cast<std::uint32_t>(unused_.size()));
    const int index = unused_[at];
    unused_.erase(unused_.begin() + at);
    return index;
  }

  // A quantity other than `but`, which must exist; a new number if there is no other.
  int AnyBut(int but) {
    const auto others = static_cast<std::uint32_t>(statements_.size() - (but < 0 ? 0 : 1));
    if (others == 0) {
      Add(Relation::kNumber, -1, -1);
      return last();
    }
    const int index = static_cast<int>(stream_.NextBelow(others));
    return but >= 0 && index >= but ? index + 1 : index;
  }

  int TakeAny(int but) {
    if (stream_.NextUniform() < kNewNumber) {
      Add(Relation::kNumber, -1, -1);
      return last();
    }
    const int index = AnyBut(but);
    std::erase(unused_, index);
    return index;
  }

  template <class List>
  void Shuffle(List& list) {  // Fisher and Yates
    for (std::size_t i = list.size(); i-- > 1;) {
      std::swap(list[i], list[stream_.NextBelow(static_cast<std::uint32_t>(i + 1))]);
    }
  }

  PhiloxStream& stream_;
  std::vector<Statement> statements_;
  std::vector<int> values_;
  std::vector<int> unused_;  // results that no line uses yet
};

std::optional<WordProblem> DrawProblem(PhiloxStream& stream, const WordOptions& options) {
  const auto range = static_cast<std::uint32_t>(options.lines_max - options.lines_min + 1);
  const int lines = options.lines_min + static_cast<int>(stream.NextBelow(range));
  Draft draft(stream);
  for (int left = lines; left-- > 0;) {
    if (!draft.AddLine(left)) return std::nullopt;
  }
  const int asked = draft.last();
  for (int i = 0; i < options.distractors; ++i) {
    if (!draft.AddDistractor()) return std::nullopt;
  }
  return draft.Tell(asked);
}

// Of the needed statements in order of need, with quantities numbered as they come.
std::uint64_t HashOfNeeded(const WordSolution& solution) {
  std::uint64_t hash = kWordsKey;
  std::array<std::uint32_t, kNouns.size()> numbers{};
  std::uint32_t next = 1;
  const auto number_of = [&](int name) { return name < 0 ? 0 : numbers[static_cast<std::size_t>(name)]; };
  const auto add = [&](int name) {
    const Statement& s = *solution.statements[static_cast<std::size_t>(name)];
    const PhiloxWords words = Philox(hash, {static_cast<std::uint32_t>(s.relation), static_cast<std::uint32_t>(s.k),
                                            number_of(s.first), number_of(s.second)});
    hash = words[0] | std::uint64_t{words[1]} << 32;
    numbers[static_cast<std::size_t>(name)] = next++;
  };
  for (const int line : solution.lines) {
    const Statement& s = *solution.statements[static_cast<std::size_t>(line)];
    for (const int operand : {s.first, s.second}) {
      if (operand >= 0 && number_of(operand) == 0) add(operand);
    }
    add(line);
  }
  return hash;
}

}  // namespace

WordSolution Solve(const WordProblem& problem) {
  Solver solver(problem);
  SWARR_CHECK(IsNoun(problem.asked), "words: what is asked for is no quantity");
  solver.ValueOf(problem.asked);
  const std::vector<int> lines = solver.solution.lines;
  SWARR_CHECK(!lines.empty(), "words: the answer is stated in the problem");
  for (const Statement& s : problem.statements) solver.ValueOf(s.name);
  solver.solution.lines = lines;  // without the distractors' values
  return solver.solution;
}

void CheckWordOptions(const WordOptions& o) {
  if (o.lines_min < 1 || o.lines_min > o.lines_max || o.lines_max > kMostLines) {
    throw UsageError(Concat("words: the number of lines runs from ", o.lines_min, " to ", o.lines_max,
                            "; give a range within 1..", kMostLines, "."));
  }
  if (o.distractors < 0 || o.distractors > kMostDistractors) {
    throw UsageError(Concat("words: there are ", o.distractors, " distractors; give 0 to ", kMostDistractors, "."));
  }
  for (const double share : {o.shares.local, o.shares.carry}) {
    if (!(share >= 0 && share <= 1)) {
      throw UsageError(Concat("words: a share of lines is ", share, "; give one between 0 and 1."));
    }
  }
}

Split SplitOf(const WordProblem& problem) {
  const double u = UniformFrom(static_cast<std::uint32_t>(HashOfNeeded(Solve(problem))));
  if (u < kWordsSftShare) return Split::kSft;
  return u < kWordsSftShare + kWordsRlShare ? Split::kRl : Split::kEval;
}

WordProblem WordProblemAt(Split split, std::int64_t index, const WordOptions& options) {
  PhiloxStream stream(
      StreamKey(kWordsKey, Purpose::kData, static_cast<std::uint32_t>(split), static_cast<std::uint32_t>(index)));
  while (true) {  // most leave the range of values, or belong to another split
    const std::optional<WordProblem> problem = DrawProblem(stream, options);
    if (problem && SplitOf(*problem) == split) return *problem;
  }
}

}  // namespace swarr
