// SPDX-License-Identifier: Apache-2.0
#include "task/chain.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "tensor/philox.h"
#include "trace_ratios.h"

using namespace swarr;

namespace {

// 7*5 + 3 = 38 = C (mod 13), 7*12 + 3 = 87 = 9 (mod 13).
constexpr ChainProblem kTwoSteps{7, 3, 5, 2};

auto Key(const ChainProblem& p) { return std::tuple(p.a, p.b, p.x0, p.n); }

}  // namespace

TEST_CASE("the texts of a problem read as the task defines them") {
  CHECK(PromptOf({7, 3, 5, 20}) == "a7b3n20x5?");
  CHECK(PromptOf({11, 12, 10, 4}) == "aBbCn04xA?");
  CHECK(PromptOf(kTwoSteps).size() == kPromptLength);
  CHECK(ChainValues(kTwoSteps) == std::vector<int>{12, 9});
  CHECK(AnswerOf(kTwoSteps) == "9");
  CHECK(TraceOf(kTwoSteps, 0.0, 1) == "01:C,02:9,#9");
  CHECK(TraceOf(kTwoSteps, 1.0, 1) == "[a7b3n02]01:C,[a7b3n02]02:9,#9");
}

TEST_CASE("a trace uses no character outside the alphabet and fits the token limit, end of text included") {
  std::set<char> used;
  for (const int n : {1, 2, 16, 32, 99}) {
    const ChainProblem problem{11, 12, 0, n};
    const std::string trace = TraceOf(problem, 1.0, 0);
    CHECK(static_cast<int>(trace.size()) + 1 <= ChainTokenLimit(n));
    for (const char c : PromptOf(problem) + trace) used.insert(c);
  }
  for (const char c : used) CHECK(kChainAlphabet.find(c) != std::string_view::npos);
  CHECK(std::set<char>(kChainAlphabet.begin(), kChainAlphabet.end()).size() == kChainAlphabet.size());
}

TEST_CASE("every orbit has length 12, and each n has 624 problems") {
  int problems = 0;
  for (const int a : kRoots) {
    for (int b = 0; b < kModulus; ++b) {
      for (int x0 = 0; x0 < kModulus; ++x0) {
        const ChainProblem problem{a, b, x0, 12};
        if (!Valid(problem)) continue;
        ++problems;
        const std::vector<int> values = ChainValues(problem);
        CHECK(std::set<int>(values.begin(), values.end()).size() == 12);
        CHECK(values.back() == x0);
      }
    }
  }
  CHECK(problems == 624);
}

TEST_CASE("a problem outside the task is not valid and has no texts") {
  // 7x + 3 = x (mod 13) for x = 6.
  for (const ChainProblem& bad : std::vector<ChainProblem>{
           {7, 3, 6, 5}, {3, 3, 5, 5}, {7, 13, 5, 5}, {7, -1, 5, 5}, {7, 3, 13, 5}, {7, 3, 5, 0}, {7, 3, 5, 100}}) {
    CHECK_FALSE(Valid(bad));
    CHECK_THROWS_AS(PromptOf(bad), Error);
    CHECK_THROWS_AS(ChainValues(bad), Error);
  }
  CHECK_THROWS_AS(TraceOf(kTwoSteps, 1.5, 0), Error);
  CHECK_THROWS_AS(TraceOf(kTwoSteps, std::nan(""), 0), Error);
}

TEST_CASE("prompts parse back to their problems") {
  for (const Split split : {Split::kSft, Split::kRl, Split::kEval}) {
    for (const ChainProblem& problem : ProblemsOf(split, 9, 10)) CHECK(ParsePrompt(PromptOf(problem)) == problem);
  }
}

TEST_CASE("a text that is not a prompt of a valid problem is refused") {
  for (const char* text : {"", "a7b3n20x5", "a7b3n20x5? ", "a7b3n2x5?", "aDb3n20x5?", "a7b3nA0x5?", "a7b3n20y5?",
                           "a7b3n20xb?", "a7b3n20x6?", "a3b3n20x5?", "a7b3n00x5?"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(ParsePrompt(text), Error);
  }
}

TEST_CASE("the splits hold every problem exactly once, in nearly their nominal shares") {
  for (const auto& [n_max, total] : std::map<int, std::size_t>{{16, 8112}, {32, 18096}}) {
    std::set<std::tuple<int, int, int, int>> seen;
    std::size_t count = 0;
    for (const auto& [split, share] :
         std::map<Split, double>{{Split::kSft, kSftShare}, {Split::kRl, kRlShare}, {Split::kEval, 0.2}}) {
      const std::vector<ChainProblem> problems = ProblemsOf(split, 4, n_max);
      count += problems.size();
      for (const ChainProblem& problem : problems) {
        seen.insert(Key(problem));
        REQUIRE(SplitOf(problem) == split);
        REQUIRE(Valid(problem));
      }
      // Four standard deviations of a binomial count.
      const double expected = share * static_cast<double>(total);
      CHECK(std::abs(static_cast<double>(problems.size()) - expected) < 4 * std::sqrt(expected * (1 - share)));
    }
    CHECK(count == total);
    CHECK(seen.size() == total);
  }
}

TEST_CASE("a split is the same in every build") {
  // Frozen: a change here would let a trained model meet its evaluation problems in training.
  const std::vector<ChainProblem> problems = ProblemsOf(Split::kEval, 4, 16);
  CHECK(problems.size() == 1637);
  CHECK(PromptOf(problems[0]) == "a2bAn16x1?");
}

TEST_CASE("the first problems of a split are a fair sample over n, and a narrower range keeps their order") {
  const std::vector<ChainProblem> problems = ProblemsOf(Split::kEval, 4, 16);
  // n is uniform over 13 values with variance (13^2 - 1) / 12 = 14; five standard errors of the mean of 256.
  double sum = 0;
  for (std::size_t i = 0; i < 256; ++i) sum += problems[i].n;
  CHECK(std::abs(sum / 256 - 10.0) < 5 * std::sqrt(14.0 / 256));
  std::vector<ChainProblem> kept;
  std::copy_if(problems.begin(), problems.end(), std::back_inserter(kept), [](const auto& p) { return p.n <= 8; });
  CHECK(kept == ProblemsOf(Split::kEval, 4, 8));
}

TEST_CASE("a range of steps that two digits can't hold is wrong usage") {
  CHECK_THROWS_AS(ProblemsOf(Split::kSft, 0, 4), UsageError);
  CHECK_THROWS_AS(ProblemsOf(Split::kSft, 5, 4), UsageError);
  CHECK_THROWS_AS(ProblemsOf(Split::kSft, 4, 100), UsageError);
  CHECK_THROWS_AS(ChainTask(Split::kSft, {.restate_probability = -0.1}), UsageError);
  CHECK_THROWS_AS(ChainTask(Split::kSft, {.restate_probability = std::nan("")}), UsageError);
}

TEST_CASE("the verdict names the rule that decided") {
  const auto rule = [](std::string_view text, bool finished = true) { return VerifyChain("C", text, finished).rule; };
  CHECK(VerifyChain("C", "01:C,#C", true).reward == 1);
  CHECK(rule("01:C,#C") == "correct");
  CHECK(rule("#9#C") == "correct");
  CHECK(rule("#C", false) == "truncated");
  CHECK(rule("01:C,") == "no '#'");
  CHECK(rule("") == "no '#'");
  for (const char* text : {"#", "#CC", "#C#", "#C,", "#D", "#c", "#b", "# C", "##"}) {
    CAPTURE(text);
    CHECK(rule(text) == "not one digit after the last '#'");
    CHECK(VerifyChain("C", text, true).reward == 0);
  }
  CHECK(rule("#B") == "wrong digit");
  CHECK(rule("#C#B") == "wrong digit");
  CHECK(VerifyChain("C", "#B", true).reward == 0);
  CHECK(VerifyChain("C", "#C", false).reward == 0);
  CHECK_THROWS_AS(VerifyChain("", "#C", true), Error);
  CHECK_THROWS_AS(VerifyChain("12", "#C", true), Error);
}

TEST_CASE("the task rewards its own traces, and nothing truncated or wrong") {
  const ChainTask task(Split::kRl, {});
  for (std::int64_t i = 0; i < task.size(); i += 97) {
    const Example example = task.Get(i, 0);
    CHECK(ParsePrompt(example.prompt) == task.problem(i));
    CHECK(task.Reward(example, example.completion, true) == 1.0);
    CHECK(task.Reward(example, example.completion, false) == 0.0);
    CHECK(task.Reward(example, example.completion + example.answer, true) == 0.0);
  }
  CHECK_THROWS_AS(task.Get(-1, 0), Error);
  CHECK_THROWS_AS(task.Get(task.size(), 0), Error);
}

TEST_CASE("restatements are drawn afresh for each draw, problem and seed, and reproducibly") {
  const ChainTask task(Split::kSft, {.n_min = 32, .n_max = 32, .restate_probability = 0.5, .seed = 7});
  const ChainTask twin(Split::kSft, {.n_min = 32, .n_max = 32, .restate_probability = 0.5, .seed = 7});
  const ChainTask other(Split::kSft, {.n_min = 32, .n_max = 32, .restate_probability = 0.5, .seed = 8});
  const std::uint64_t far = std::uint64_t{1} << 32;  // differs from draw 0 in the high word only
  for (std::int64_t i = 0; i < 8; ++i) {
    const Example example = task.Get(i, 0);
    CHECK(twin.Get(i, 0).completion == example.completion);
    // Two independent patterns of 32 fair coins agree once in 4e9.
    CHECK(task.Get(i, 1).completion != example.completion);
    CHECK(task.Get(i, far).completion != example.completion);
    CHECK(other.Get(i, 0).completion != example.completion);
    CHECK(other.Get(i, 0).prompt == example.prompt);
  }
}

TEST_CASE("traces restate at the planted rate") {
  for (const double p : {0.02, 0.2, 0.35, 0.9}) {
    const ChainTask task(Split::kSft, {.restate_probability = p});
    double steps = 0, restatements = 0;
    for (std::int64_t i = 0; i < task.size(); ++i) {
      const TraceMeasures measures = MeasureTrace(task.problem(i), task.Get(i, 3).completion);
      steps += measures.steps;
      restatements += measures.restatements;
    }
    CHECK(std::abs(restatements - p * steps) < 4 * std::sqrt(steps * p * (1 - p)));  // four standard deviations
  }
}

TEST_CASE("the measures of a trace without restatements count from the prompt") {
  // Positions: a 1, b 3, n 6 in the prompt; ':' at 12 and 17; the last ',' at 19.
  const TraceMeasures measures = MeasureTrace(kTwoSteps, "01:C,02:9,#9");
  CHECK(measures.length == 12);
  CHECK(measures.steps == 2);
  CHECK(measures.restatements == 0);
  CHECK(measures.distances == std::vector<int>{11, 9, 16, 14, 13});
  CHECK(FactsInWindow(measures, 14) == 3);  // 11, 9 and 13; 14 is just outside
  CHECK(FactsInWindow(measures, 15) == 4);
  CHECK(FactsInWindow(measures, 1) == 0);
  CHECK(FactsInWindow(measures, 0) == 5);
  CHECK_THROWS_AS(FactsInWindow(measures, -1), Error);
}

TEST_CASE("a restatement moves the mentions of the facts that it gives rightly") {
  // '[' at 15, so a at 17, b at 19, n at 22; ':' at 26; the last ',' at 28.
  CHECK(MeasureTrace(kTwoSteps, "01:C,[a7b3n02]02:9,#9").distances == std::vector<int>{11, 9, 9, 7, 6});
  CHECK(MeasureTrace(kTwoSteps, "01:C,[a6b3n02]02:9,#9").distances == std::vector<int>{11, 9, 25, 7, 6});
  CHECK(MeasureTrace(kTwoSteps, "01:C,[a7b4n02]02:9,#9").distances == std::vector<int>{11, 9, 9, 23, 6});
  CHECK(MeasureTrace(kTwoSteps, "01:C,[a7b3n03]02:9,#9").distances == std::vector<int>{11, 9, 9, 7, 22});
  // Before '#', the query that decides to stop is the ']'.
  CHECK(MeasureTrace(kTwoSteps, "01:C,02:9,[a7b3n02]#9").distances == std::vector<int>{11, 9, 16, 14, 1});
}

TEST_CASE("a malformed restatement is counted and mentions nothing") {
  for (const char* text : {"01:C,[a7b3n2.]02:9,#9", "01:C,[a7b3n02,02:9,#9", "01:C,[b3a7n02]02:9,#9"}) {
    CAPTURE(text);
    const TraceMeasures measures = MeasureTrace(kTwoSteps, text);
    CHECK(measures.restatements == 1);
    CHECK(measures.distances == std::vector<int>{11, 9, 25, 23, 22});
  }
  CHECK(MeasureTrace(kTwoSteps, "01:C,.a7b3n02]02:9,#9").distances == std::vector<int>{11, 9, 25, 23, 22});
}

TEST_CASE("the measures are defined for any text") {
  CHECK(MeasureTrace(kTwoSteps, "").distances.empty());
  CHECK(MeasureTrace(kTwoSteps, ":").distances == std::vector<int>{9, 7});
  CHECK(MeasureTrace(kTwoSteps, "#").distances == std::vector<int>{3});
  CHECK(MeasureTrace(kTwoSteps, "#C#9").distances == std::vector<int>{5});  // the last '#' at 12, its query at 11
  CHECK(MeasureTrace(kTwoSteps, "01:C,02").distances == std::vector<int>{11, 9});
  CHECK(MeasureTrace(kTwoSteps, "[[[a7b3n0").restatements == 3);
  PhiloxStream stream(11);
  const std::string pieces = std::string(kChainAlphabet) + std::string("\0\x80\xff~", 4);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint32_t k = stream.NextBelow(40); k > 0; --k) {
      const std::uint32_t at = stream.NextBelow(static_cast<std::uint32_t>(pieces.size()) + 2);
      text += at < pieces.size() ? std::string{pieces[at]} : "[a7b3n02]";
    }
    const TraceMeasures measures = MeasureTrace(kTwoSteps, text);
    REQUIRE(measures.length == static_cast<int>(text.size()));
    REQUIRE(measures.steps == std::count(text.begin(), text.end(), ':'));
    REQUIRE(measures.restatements == std::count(text.begin(), text.end(), '['));
    const int decisions = text.find('#') == std::string::npos ? 0 : 1;
    REQUIRE(static_cast<int>(measures.distances.size()) == 2 * measures.steps + decisions);
    // Every mention lies before its query.
    for (const int distance : measures.distances) REQUIRE(distance >= 1);
  }
}

TEST_CASE("the summary pools steps and facts over traces") {
  const std::vector<std::string> texts = {"01:C,02:9,#9", "01:C,[a7b3n02]02:9,#9", "["};
  const nlohmann::json row = {{"prompt", PromptOf(kTwoSteps)}, {"a", 7}, {"b", 3}, {"x0", 5}, {"n", 2}};
  const std::map<std::string, double> ratios = RatiosOf("chain", row, texts, 10);
  CHECK(ratios.at("restatement_rate") == 2.0 / 4);
  CHECK(ratios.at("dependency_distance_mean") == (63.0 + 42.0) / 10);
  CHECK(ratios.at("facts_in_window") == 5.0 / 10);  // 9; then 9, 9, 7, 6
  CHECK(RatiosOf("chain", row, texts, 0).at("facts_in_window") == 1.0);
  CHECK(RatiosOf("chain", row, {}, 10).at("restatement_rate") == 0.0);
}
