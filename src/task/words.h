// SPDX-License-Identifier: Apache-2.0
// Word problems: quantities that depend on each other, told in English in any order, with some that the question does
// not need. In the spirit of iGSM (Ye et al., arXiv 2407.20311) and GSM-Infinite (Zhou et al., arXiv 2502.05252).
//
//   prompt      Given foxes are 3; bees are 4 times hens; hens are 5 more than foxes; cats are 7; how many bees?
//   remote       next, we work out the number of hens, which is 8.
//   local        next, we work out the number of bees: hens times 4, where hens are 8, so 8 times 4, which is 32.
//   carrying     [ hens 8; bees hens times 4 ]     before a line: what it and later lines still need
//   end          #### 32                           then end of text
//
// The solution has a line for each quantity that the question needs and that is not a number of its own, in order of
// need: before a quantity come those that it is made of, the first named first. A completion starts with a space, so
// that a word is one token wherever it stands. Every word, number and sign is a token (WordPieces). Numbers are whole
// tokens, not digits: a value is then one token, which one query predicts and one position mentions.
//
// The problem fits into one window, the trace does not: what a line needs slides out of reach unless it is carried.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "task/task.h"

namespace swarr {

// Names of quantities. A quantity's name is its index here.
constexpr std::array<std::string_view, 26> kNouns = {
    "ants",  "bats",  "bees", "cats",   "cows",  "crows", "deer", "dogs", "doves", "ducks", "foxes", "frogs", "geese",
    "goats", "hares", "hens", "horses", "lions", "mice",  "owls", "pigs", "rats",  "seals", "sheep", "toads", "wolves"};

constexpr int kMostValue = 99;  // all values are in 1 .. kMostValue
constexpr int kMostLines = 12;
constexpr int kMostDistractors = 6;
// The best guess at an answer of who knows all values but not the asked statement: twice the value before. Counted on
// 2,000 problems (docs/study.md).
constexpr double kWordsGuess = 0.056;

enum class Relation : std::uint8_t { kNumber, kMore, kFewer, kTimes, kSum };

//                                  in the prompt              terse
//   kNumber                        foxes are 3                foxes 3
//   kMore, kFewer (than first)     hens are 5 more than foxes hens foxes plus 5    (fewer: minus)
//   kTimes                         bees are 4 times hens      bees hens times 4
//   kSum (second is used by it)    cows are hens plus bees    cows hens plus bees
struct Statement {
  int name = 0;
  Relation relation = Relation::kNumber;
  int k = 0;       // the number in it; 0 in a sum
  int first = -1;  // the names of what it depends on; -1 where there is none
  int second = -1;
  bool operator==(const Statement&) const = default;
};

struct WordProblem {
  std::vector<Statement> statements;  // in the order in which the prompt tells them
  int asked = 0;
  bool operator==(const WordProblem&) const = default;
};

struct WordSolution {
  std::array<int, kNouns.size()> values{};                   // by name; 0 of what is not stated
  std::array<const Statement*, kNouns.size()> statements{};  // by name; of the problem, which must outlive this
  std::vector<int> lines;                                    // names of what has to be computed, in order of need
};

// Throws Error for what is no problem of the task: a name stated twice or not at all, a quantity that depends on
// itself, a number or value outside 1 .. kMostValue, a sum of one quantity with itself, a question whose answer is
// stated.
WordSolution Solve(const WordProblem& problem);

// --- texts (words_text.cc) ---

// All tokens but the end of text.
std::vector<std::string> WordPieces();

std::string PromptOf(const WordProblem& problem);
std::string AnswerOf(const WordProblem& problem);
std::string TerseOf(const Statement& statement);

// The probabilities, in [0, 1], that a line is local, and that a bracket stands before it.
struct WordShares {
  double local = 0.5;
  double carry = 0.2;
};

// A completion without end of text. Each line takes two uniforms of the Philox stream `stream_key`.
std::string TraceOf(const WordProblem& problem, const WordShares& shares, std::uint64_t stream_key);

// What a rollout may take for n lines, in tokens. A local line of a sum has 32. With r lines to come, that one
// included, a bracket holds at most r statements (4 tokens and a sign) and r + 1 values (2 and a sign), as each of the
// r - 1 results before the last is used by a later one: 8r + 4 with its own signs. Then "####", the answer, end of
// text, and one spare.
constexpr int WordTokenLimit(int n) { return 32 * n + 4 * n * (n + 1) + 4 * n + 4; }

// A word (a capital only where it begins), a run of digits, "####", or any other character that is no space. In texts
// that are made of WordPieces each token is one of them.
struct Lexeme {
  std::string_view text;
  std::size_t begin = 0;  // in the text
  int noun = -1;          // the name, of one of kNouns
  int number = -1;        // the value, of digits; those that mean more than 10^6 count as 10^6
};
std::vector<Lexeme> Lexemes(std::string_view text);

// What the statement of `name` says, read from the start of `lexemes` after the name, as terse or as told in the prompt
// (after "are"). Nothing if no relation other than kNumber is written there.
std::optional<Statement> ReadTerse(int name, std::span<const Lexeme> lexemes);
std::optional<Statement> ReadTold(int name, std::span<const Lexeme> lexemes);

// The reward rule. A text is worth 1 if it ended by end of text and what follows its last "####", spaces aside, is the
// gold number, written as it is; else 0. `rule` says what decided: "correct", "truncated", "no '####'", "not one number
// after the last '####'" or "wrong number". Throws Error if `gold` is no number in 1 .. kMostValue.
Score VerifyWords(std::string_view gold, std::string_view completion, bool finished);

// What follows the last "####", without spaces around; empty if there is none.
std::string ExtractWordsAnswer(std::string_view completion);

// --- problems ---

struct WordOptions {
  int lines_min = 4;  // of the solution
  int lines_max = 6;
  int distractors = 1;  // quantities that the question does not need
  WordShares shares = {};
  std::uint64_t seed = 0;  // of the lines' styles only; the problems and their order are fixed
};

// Throws UsageError unless 1 <= lines_min <= lines_max <= kMostLines, 0 <= distractors <= kMostDistractors, and the
// shares are probabilities.
void CheckWordOptions(const WordOptions& options);

// A problem's split depends, through a hash, on its needed statements in order of need, with the names and the order of
// telling left out. So it is the same in every run, for every seed and every range of lines, and no problem of one set
// is one of another with other names, in another order or with other distractors.
constexpr double kWordsSftShare = 0.5;
constexpr double kWordsRlShare = 0.3;  // the rest, 0.2, is for evaluation
Split SplitOf(const WordProblem& problem);

// There is no end of problems; a task has so many of them.
constexpr std::array<std::int64_t, 3> kWordProblems = {100000, 20000, 2000};  // by Split

// Problem `index` of a split: the first one of this split in a stream of random problems of its own. It does not depend
// on how many others are asked for.
WordProblem WordProblemAt(Split split, std::int64_t index, const WordOptions& options);

// --- as training and evaluation meet it (words_task.cc) ---

class WordTask final : public Task {
 public:
  // Throws UsageError as CheckWordOptions does.
  WordTask(Split split, const WordOptions& options);

  std::int64_t size() const override { return kWordProblems[static_cast<std::size_t>(split_)]; }
  Example Get(std::int64_t index, std::uint64_t draw) const override;  // draws the styles of the lines
  double Reward(const Example& example, std::string_view completion, bool finished) const override {
    return VerifyWords(example.answer, completion, finished).reward;
  }
  std::string Extract(std::string_view completion) const override { return ExtractWordsAnswer(completion); }
  int completion_limit() const override { return WordTokenLimit(options_.lines_max); }
  // With the statements, terse, and with what is asked.
  nlohmann::ordered_json Row(std::int64_t index, std::uint64_t draw) const override;

  WordProblem problem(std::int64_t index) const;

 private:
  Split split_;
  WordOptions options_;
};

// The problem that a row states in "statements" and "asked"; nothing if it has neither. Throws Error if it has only
// one, if they are no problem of the task, or if the row's prompt states another one.
std::optional<WordProblem> WordProblemOf(const nlohmann::json& row);

// --- how far back lies what the lines of a completion need (words_trace.cc) ---
//
// Defined for any text of any policy. A line runs from "number of NAME" to its result, the number after the next "is";
// if the sentence, a bracket or another such beginning comes first, it computes nothing and needs nothing. It needs
//   its statement                     at its first name or number, which the token before predicts;
//   the value of each operand         at the number of the first "OPERAND are NUMBER" in the line, else at the result.
// A mention of a value is a number: after "NAME are", after a name in a bracket, or as the result of a line. A mention
// of a statement is the first name or number of its relation: after "NAME are", after a name in a bracket, or after
// "number of NAME:". It is right if it says what the problem says; the prompt mentions all statements and all numbers.
// If no value of an operand, right or wrong, was mentioned before the query, the line needs at that query what the
// operand's own line would need. So does the number after the last "####" if nothing has given a value of what is
// asked.
//
// Distances count tokens from the query to the last mention at or before it. A layer whose window W counts the current
// token sees the mention iff distance < W.

struct WordNeed {
  bool statement = false;  // else a value
  int placed = 0;          // distance to the last mention, right or wrong
  int right = -1;          // to the last right one; -1: there is none
};

struct WordMeasures {
  int length = 0;  // tokens of the completion from its first word on, without end of text
  int lines = 0;   // that compute something
  int local = 0;   // of those, how many write their statement
  int brackets = 0;
  int carried = 0;  // statements and values in brackets
  std::vector<WordNeed> needs;
};

// `starts` are the bytes of prompt + completion at which tokens begin, in ascending order, so that a pretrained model's
// tokens can be counted. Tokens that the text does not show, as a chat template's between the two, begin where the next
// one begins that it does.
WordMeasures MeasureWords(const WordProblem& problem, std::string_view completion, std::span<const std::size_t> starts);
// With the task's own tokens.
WordMeasures MeasureWords(const WordProblem& problem, std::string_view completion);

// Whether everything that the lines need was mentioned at most `reach` tokens before its query (ReachOf in
// task/ceiling.h), rightly or wrongly: to copy it wrongly is a lack of competence, not of sight.
bool InReach(const WordMeasures& measures, std::int64_t reach);

}  // namespace swarr
