// SPDX-License-Identifier: Apache-2.0
#include "task/chain.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

// Fixes which problem is in which split, and the order inside each; a different value makes old models see their
// evaluation problems in training.
constexpr std::uint64_t kSplitKey = 0x636861696E2D3133;

char DigitChar(int value) { return kChainAlphabet[static_cast<std::size_t>(value)]; }

// The value of a digit, or nothing for any other character.
std::optional<int> DigitValue(char c) {
  const std::size_t at = kChainAlphabet.substr(0, kModulus).find(c);
  if (at == std::string_view::npos) return std::nullopt;
  return static_cast<int>(at);
}

bool IsDecimal(char c) { return c >= '0' && c <= '9'; }

std::string TwoDigits(int value) { return {DigitChar(value / 10), DigitChar(value % 10)}; }

int Successor(const ChainProblem& problem, int x) { return (problem.a * x + problem.b) % kModulus; }

void CheckValid(const ChainProblem& p) {
  SWARR_CHECK(Valid(p), "chain: a=", p.a, ", b=", p.b, ", x0=", p.x0, ", n=", p.n,
              " is not a problem of the task; use a in {2, 6, 7, 11}, b and x0 in 0..12 with (a*x0 + b) mod 13 != x0, "
              "and n in 1..",
              kMaxChainSteps, ".");
}

std::string FactsText(const ChainProblem& p) {
  return std::string{'a', DigitChar(p.a), 'b', DigitChar(p.b), 'n'} + TwoDigits(p.n);
}

PhiloxWords ProblemHash(const ChainProblem& p) {
  return Philox(kSplitKey, {static_cast<std::uint32_t>(p.a), static_cast<std::uint32_t>(p.b),
                            static_cast<std::uint32_t>(p.x0), static_cast<std::uint32_t>(p.n)});
}

}  // namespace

bool Valid(const ChainProblem& p) {
  const auto is_digit = [](int value) { return value >= 0 && value < kModulus; };
  return std::find(kRoots.begin(), kRoots.end(), p.a) != kRoots.end() && is_digit(p.b) && is_digit(p.x0) && p.n >= 1 &&
         p.n <= kMaxChainSteps && Successor(p, p.x0) != p.x0;
}

std::vector<int> ChainValues(const ChainProblem& problem) {
  CheckValid(problem);
  std::vector<int> values;
  int x = problem.x0;
  for (int t = 0; t < problem.n; ++t) values.push_back(x = Successor(problem, x));
  return values;
}

std::string PromptOf(const ChainProblem& problem) {
  CheckValid(problem);
  return FactsText(problem) + 'x' + DigitChar(problem.x0) + '?';
}

std::string AnswerOf(const ChainProblem& problem) { return {DigitChar(ChainValues(problem).back())}; }

std::string TraceOf(const ChainProblem& problem, double restate_probability, std::uint64_t stream_key) {
  SWARR_CHECK(restate_probability >= 0 && restate_probability <= 1, "chain: the restatement probability is ",
              restate_probability, "; give one between 0 and 1.");
  const std::vector<int> values = ChainValues(problem);
  const std::string restatement = '[' + FactsText(problem) + ']';
  PhiloxStream stream(stream_key);
  std::string trace;
  for (int t = 1; t <= problem.n; ++t) {
    if (stream.NextUniform() < restate_probability) trace += restatement;
    trace += TwoDigits(t) + ':' + DigitChar(values[static_cast<std::size_t>(t - 1)]) + ',';
  }
  return trace + '#' + DigitChar(values.back());
}

std::optional<ChainFacts> ParseFacts(std::string_view text) {
  if (text.size() < kFactsLength || text[0] != 'a' || text[2] != 'b' || text[4] != 'n') return std::nullopt;
  const std::optional<int> a = DigitValue(text[kOffsetA]), b = DigitValue(text[kOffsetB]);
  if (!a || !b || !IsDecimal(text[kOffsetN - 1]) || !IsDecimal(text[kOffsetN])) return std::nullopt;
  return ChainFacts{*a, *b, 10 * (text[kOffsetN - 1] - '0') + (text[kOffsetN] - '0')};
}

ChainProblem ParsePrompt(std::string_view prompt) {
  const std::optional<ChainFacts> facts = ParseFacts(prompt);
  const bool shaped = facts && prompt.size() == kPromptLength && prompt[7] == 'x' && prompt[9] == '?';
  const std::optional<int> x0 = shaped ? DigitValue(prompt[8]) : std::nullopt;
  SWARR_CHECK(x0, "chain: \"", prompt, "\" is not a prompt of the task; write it like a7b3n20x5? with digits 0-9ABC.");
  const ChainProblem problem{facts->a, facts->b, *x0, facts->n};
  CheckValid(problem);
  return problem;
}

Split SplitOf(const ChainProblem& problem) {
  const double u = UniformFrom(ProblemHash(problem)[0]);
  if (u < kSftShare) return Split::kSft;
  return u < kSftShare + kRlShare ? Split::kRl : Split::kEval;
}

std::vector<ChainProblem> ProblemsOf(Split split, int n_min, int n_max) {
  if (n_min < 1 || n_min > n_max || n_max > kMaxChainSteps) {
    throw UsageError(Concat("chain: the number of steps runs from ", n_min, " to ", n_max, "; give a range within 1..",
                            kMaxChainSteps, "."));
  }
  std::vector<ChainProblem> problems;
  for (int n = n_min; n <= n_max; ++n) {
    for (const int a : kRoots) {
      for (int b = 0; b < kModulus; ++b) {
        for (int x0 = 0; x0 < kModulus; ++x0) {
          const ChainProblem problem{a, b, x0, n};
          if (Valid(problem) && SplitOf(problem) == split) problems.push_back(problem);
        }
      }
    }
  }
  // The first word of the hash chose the split, so the order comes from the others; the last fields break ties.
  const auto order_key = [](const ChainProblem& p) {
    const PhiloxWords words = ProblemHash(p);
    return std::tuple(words[1], words[2], p.n, p.a, p.b, p.x0);
  };
  std::ranges::sort(problems, {}, order_key);
  return problems;
}

Score VerifyChain(std::string_view gold, std::string_view completion, bool finished) {
  SWARR_CHECK(gold.size() == 1 && DigitValue(gold[0]), "chain: the gold answer is \"", gold,
              "\"; give one digit out of 0-9ABC.");
  if (!finished) return {0, "truncated"};
  const std::size_t mark = completion.rfind('#');
  if (mark == std::string_view::npos) return {0, "no '#'"};
  const std::string_view answer = completion.substr(mark + 1);
  if (answer.size() != 1 || !DigitValue(answer[0])) return {0, "not one digit after the last '#'"};
  return answer == gold ? Score{1, "correct"} : Score{0, "wrong digit"};
}

std::string ExtractChainAnswer(std::string_view completion) {
  const std::size_t mark = completion.rfind('#');
  return mark == std::string_view::npos ? std::string() : std::string(completion.substr(mark + 1));
}

}  // namespace swarr
