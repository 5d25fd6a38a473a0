// SPDX-License-Identifier: Apache-2.0
// The chain task: iterate x_{t+1} = (a x_t + b) mod 13 for n steps. The facts a, b, n stand at the start of the prompt
// and slide out of a short attention window; a trace may restate them before any step. Every character is a token:
//
//   prompt       a7b3n20x5?      facts, then the start x0; digits are 0-9ABC, n has two decimal digits
//   step         07:C,           step number and value
//   restatement  [a7b3n20]       optional, before a step
//   end          #C              the last value again, then end of text
//
// Every a is a primitive root of 13, so each orbit that does not start at the fixed point has length 12 and a guess is
// right about once in 12 times. Each (a, b) has exactly one fixed point: 4 * 13 * 12 = 624 problems for every n.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "task/task.h"

namespace swarr {

constexpr int kModulus = 13;
constexpr int kOrbitLength = kModulus - 1;
constexpr double kChainGuess = 1.0 / kOrbitLength;  // the least that a guess when to stop is worth (task/ceiling.h)
constexpr std::array<int, 4> kRoots = {2, 6, 7, 11};
constexpr int kMaxChainSteps = 99;  // step numbers have two decimal digits

// Every character is a token. The first 13 are the digits.
constexpr std::string_view kChainAlphabet = "0123456789ABCabnx:,[]?#";

// The layout above in characters. The facts text "a7b3n20" opens the prompt and follows the '[' of a restatement;
// offsets of a fact's (last) digit count from the start of the facts text.
constexpr int kPromptLength = 10;
constexpr int kFactsLength = 7;
constexpr int kRestatementLength = kFactsLength + 2;
constexpr int kStepLength = 5;
constexpr int kColonOffset = 2;  // of ':' in a step
constexpr int kOffsetA = 1, kOffsetB = 3, kOffsetN = 6;

// What a rollout may take for n steps, in tokens: a restatement before every step, '#', the digit, end of text, and
// one spare.
constexpr int ChainTokenLimit(int n) { return (kRestatementLength + kStepLength) * n + 4; }

struct ChainProblem {
  int a, b, x0, n;
  bool operator==(const ChainProblem&) const = default;
};

// The part of a problem that a restatement repeats.
struct ChainFacts {
  int a, b, n;
};

// a is one of kRoots, b and x0 are digits, 1 <= n <= kMaxChainSteps, and x0 is not the fixed point:
// (a x0 + b) mod 13 != x0.
bool Valid(const ChainProblem& problem);

// x_1 .. x_n. This and the three texts below throw Error for an invalid problem.
std::vector<int> ChainValues(const ChainProblem& problem);
std::string PromptOf(const ChainProblem& problem);
std::string AnswerOf(const ChainProblem& problem);  // the digit of x_n, one character

// A completion without end of text: n steps, each preceded by a restatement with probability `restate_probability` in
// [0, 1] (one uniform of the Philox stream `stream_key` a step), then '#' and the answer.
std::string TraceOf(const ChainProblem& problem, double restate_probability, std::uint64_t stream_key);

// The facts written at the start of `text` (which may go on after them), or nothing if they are not well-formed.
std::optional<ChainFacts> ParseFacts(std::string_view text);

// The inverse of PromptOf. Throws Error for a text that is not the prompt of a valid problem.
ChainProblem ParsePrompt(std::string_view prompt);

// A problem's split depends on (a, b, x0, n) alone, through a hash, so it is the same in every run, for every seed and
// for every range of n.
constexpr double kSftShare = 0.5;
constexpr double kRlShare = 0.3;  // the rest, 0.2, is for evaluation

Split SplitOf(const ChainProblem& problem);

// All problems of a split with n_min <= n <= n_max, in a fixed shuffled order: the first k are a fair sample of them.
// The order of two problems does not depend on the range. Throws UsageError unless
// 1 <= n_min <= n_max <= kMaxChainSteps.
std::vector<ChainProblem> ProblemsOf(Split split, int n_min, int n_max);

// The reward rule. A text is worth 1 if it ended by end of text and what follows its last '#' is exactly one digit, the
// gold one; else 0. `rule` says what decided: "correct", "truncated", "no '#'", "not one digit after the last '#'" or
// "wrong digit". Throws Error if `gold` is not one digit.
Score VerifyChain(std::string_view gold, std::string_view completion, bool finished);

// What follows the last '#'; empty if there is none.
std::string ExtractChainAnswer(std::string_view completion);

// --- as training and evaluation meet it (chain_task.cc): drawn afresh, or as rows of a data file ---

struct ChainOptions {
  int n_min = 4;
  int n_max = 16;
  double restate_probability = 0.2;
  std::uint64_t seed = 0;  // of the restatements only; the problems and their order are fixed
};

// The problems of one split as a Task. Get draws the restatements afresh for each (index, draw), reproducibly.
class ChainTask final : public Task {
 public:
  // Throws UsageError for a range that ProblemsOf rejects and for a probability outside [0, 1].
  ChainTask(Split split, const ChainOptions& options);

  std::int64_t size() const override { return static_cast<std::int64_t>(problems_.size()); }
  Example Get(std::int64_t index, std::uint64_t draw) const override;
  double Reward(const Example& example, std::string_view completion, bool finished) const override {
    return VerifyChain(example.answer, completion, finished).reward;
  }
  std::string Extract(std::string_view completion) const override { return ExtractChainAnswer(completion); }
  int completion_limit() const override { return ChainTokenLimit(options_.n_max); }
  nlohmann::ordered_json Row(std::int64_t index, std::uint64_t draw) const override;  // with a, b, n and x0

  const ChainProblem& problem(std::int64_t index) const;

 private:
  ChainOptions options_;
  std::vector<ChainProblem> problems_;
};

// The problem that a row states in a, b, n and x0; nothing if it has none of these fields. Throws Error if it has some
// but not all, if they are no problem of the task, or if the row's prompt states another one.
std::optional<ChainProblem> ChainProblemOf(const nlohmann::json& row);

// --- how far back the facts lie that the steps of a completion need (chain_trace.cc) ---
//
// These are the study's measures of
// mechanism, defined for any text of any policy, well-formed or not.
//
// Positions count the prompt: character i of the completion is at kPromptLength + i. A query is the position from which
// a token is predicted, one before it. Needed facts:
//   a and b   at every ':' (the query that predicts a step's value);
//   n         at the token before the last '#' (the query that decides to stop; the last ',' in traces of TraceOf).
// A fact's mention is its digit (the last one, for n) in the prompt or in a well-formed restatement that gives that
// fact its right value; a wrong value is no mention. Distance = query - position of the last mention before the query.
// A layer whose window W counts the current token sees the mention directly iff distance < W. How far several layers
// reach, which of the facts can't be had otherwise, and what follows for the accuracy, is in task/ceiling.h.

struct TraceMeasures {
  int length = 0;              // characters, thus tokens, without end of text
  int steps = 0;               // number of ':'
  int restatements = 0;        // number of '[', well-formed or not
  std::vector<int> distances;  // a, b for each step in order; then n if the text has a '#'
  std::vector<int> runs{0};    // the steps before the first restatement, then those after each of them
};

// Never throws for any `completion` (given without end of text).
TraceMeasures MeasureTrace(const ChainProblem& problem, std::string_view completion);

// How many of the needed facts lie inside the window. Window 0 means full attention: all of them. Attention sinks are
// not considered. Throws Error for a negative window.
int FactsInWindow(const TraceMeasures& measures, int window);

}  // namespace swarr
