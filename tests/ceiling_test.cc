// SPDX-License-Identifier: Apache-2.0
#include "task/ceiling.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "task/chain.h"
#include "tensor/philox.h"

using namespace swarr;

namespace {

constexpr double kGuess = 1.0 / 12;

double MeanMemorylessCeiling(int layers, int window, double p, int n_min, int n_max) {
  const std::vector<double> ceiling = MemorylessCeilingBySteps(layers, window, p, n_min, n_max);
  return std::accumulate(ceiling.begin(), ceiling.end(), 0.0) / static_cast<double>(ceiling.size());
}

double WithGuess(double known) { return known + (1 - known) * kGuess; }

// The problem a = 7, b = 3, x0 = 5 with n steps. Its values are C 9 1 A 8 7 0 3 B.
std::optional<int> Loses(int n, std::string_view completion, std::int64_t reach) {
  return LosesAfter(MeasureTrace({7, 3, 5, n}, completion).runs, reach);
}

bool KeepsInReach(int n, std::string_view completion, std::int64_t reach) { return !Loses(n, completion, reach); }

// The trace that restates before step t + 1 iff bit t of `pattern` is set.
std::string TraceWith(const ChainProblem& problem, unsigned pattern) {
  const std::string plain = TraceOf(problem, 0.0, 0);
  const std::string restatement = '[' + PromptOf(problem).substr(0, kFactsLength) + ']';
  std::string trace;
  for (int t = 0; t < problem.n; ++t) {
    if (pattern >> t & 1U) trace += restatement;
    trace += plain.substr(static_cast<std::size_t>(t) * kStepLength, kStepLength);
  }
  return trace + plain.substr(plain.size() - 2);
}

// After how many steps n is last seen, by its definition: every token of a well-formed trace whose query depends on n
// is held against the last mention of n's last digit before it.
std::optional<int> LosesByReading(const ChainProblem& problem, std::string_view trace, std::int64_t reach) {
  const std::string text = PromptOf(problem) + std::string(trace);
  std::size_t mention = kOffsetN;
  int steps = 0, seen = 0;
  for (std::size_t i = kPromptLength; i < text.size(); ++i) {
    const bool restates = text[i] == '[', copies = i >= 7 && text[i - 7] == '[';
    const bool steps_on = i + 2 < text.size() && text[i + 2] == ':';
    if (restates || steps_on || text[i] == '#' || copies) {
      if (static_cast<std::int64_t>(i - 1 - mention) > reach) return seen;
      if (!copies) seen = steps;
    }
    if (copies) mention = i;
    if (text[i] == ':') ++steps;
  }
  return std::nullopt;
}

// The best guess at the answer of a problem with more than t steps, by trying each value on each number of steps.
double GuessByTrial(int t, int n_min, int n_max) {
  std::vector<int> right(kModulus);
  const int first = std::max(t + 1, n_min);
  for (int n = first; n <= n_max; ++n) ++right[static_cast<std::size_t>(ChainValues({7, 3, 5, n}).back())];
  return static_cast<double>(*std::ranges::max_element(right)) / (n_max - first + 1);
}

// The ceiling for n by its definition: a sum over all 2^n patterns of restatements, each read as its text.
double CeilingByEnumeration(int reach, double p, int n, int n_max) {
  const ChainProblem problem{7, 3, 5, n};
  double ceiling = 0;
  for (unsigned pattern = 0; pattern < 1U << n; ++pattern) {
    double weight = 1;
    for (int t = 0; t < n; ++t) weight *= pattern >> t & 1U ? p : 1 - p;
    const std::optional<int> lost = LosesByReading(problem, TraceWith(problem, pattern), reach);
    ceiling += weight * (lost ? GuessByTrial(*lost, 1, n_max) : 1);
  }
  return ceiling;
}

}  // namespace

TEST_CASE("the reach is what L layers relay, and a trace is in it to the last token") {
  CHECK(ReachOf(1, 16) == 15);
  CHECK(ReachOf(3, 16) == 45);
  CHECK(ReachOf(3, 1) == 0);
  const char* trace = "01:C,02:9,#9";  // stops 13 tokens from n
  CHECK(KeepsInReach(2, trace, 13));
  CHECK_FALSE(KeepsInReach(2, trace, 12));
  CHECK(KeepsInReach(2, trace, ReachOf(2, 9)));        // beyond the window of 9, but relayed
  CHECK_FALSE(KeepsInReach(2, trace, ReachOf(3, 5)));  // one token short
}

TEST_CASE("a trace without restatement is in reach for eight steps of three layers with W = 16, and no longer") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,#3", reach));  // n at 5 * 8 + 3 = 43
  CHECK(Loses(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09:B,#B", reach) == 8);
}

TEST_CASE("a restatement keeps a trace in reach if it comes in time to be copied") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(8, "[a7b3n08]01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,#3", reach));  // n at 5 * 8 + 1 = 41
  CHECK(Loses(9, "[a7b3n09]01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09:B,#B", reach) == 8);
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a7b3n09]08:3,09:B,#B", reach));  // copied at 45
  CHECK(Loses(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,[a7b3n09]09:B,#B", reach) == 8);    // at 50
  // Whether to stop after step 8 was seen; what is restated then changes nothing.
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,[a7b3n08]#3", reach));
}

TEST_CASE("a wrong trace is judged as it was written") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(8, "01:C,02:0,03:0,04:0,05:0,06:0,07:0,08:0,#0", reach));  // wrong values
  CHECK_FALSE(KeepsInReach(9, "01:C,02:0,03:0,04:0,05:0,06:0,07:0,08:0,09:0,#0", reach));
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,05:8,06:7,07:0,08:3,09:B,#B", reach));  // a step left out, right answer or not
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,05:8,06:7,07:0,08:3,09:5,#5", reach));
  CHECK(KeepsInReach(9, "#B", reach));  // all steps left out
  // A miscopied restatement stands where one is needed: what is wrong with it is no lack of sight.
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a7b3n19]08:3,09:B,#B", reach));
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a7b3n0908:3,09:B,#B", reach));
}

TEST_CASE("a trace that was cut off needs what it has written, and an empty one nothing") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(10, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09", reach));
  CHECK_FALSE(KeepsInReach(10, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09:", reach));
  CHECK(KeepsInReach(9, "", 0));
  CHECK(KeepsInReach(9, "[a7b3n09]", 0));
}

TEST_CASE("where a trace loses n is where a reader of its text loses it") {
  for (int n = 1; n <= 10; ++n) {
    const ChainProblem problem{7, 3, 5, n};
    for (unsigned pattern = 0; pattern < 1U << n; ++pattern) {
      const std::string trace = TraceWith(problem, pattern);
      for (const int reach : {3, 7, 8, 9, 10, 11, 13, 15, 20, 27, 33, 38, 43, 45, 51}) {
        const std::optional<int> lost = LosesAfter(MeasureTrace(problem, trace).runs, reach);
        if (lost == LosesByReading(problem, trace, reach)) continue;
        CAPTURE(trace);
        CAPTURE(reach);
        CHECK(lost == LosesByReading(problem, trace, reach));
      }
    }
  }
}

TEST_CASE("the worth of a guess is that of the best of all values, tried on every number of steps that is left") {
  for (const auto& [n_min, n_max] : {std::pair{4, 20}, {1, 8}, {4, 16}, {4, 40}, {20, 20}}) {
    for (int t = 0; t < n_max; ++t) CHECK(GuessAfter(t, n_min, n_max) == GuessByTrial(t, n_min, n_max));
    CHECK(GuessAfter(n_max, n_min, n_max) == 1);
  }
  CHECK(GuessAfter(8, 4, 20) == kGuess);    // 9 .. 20
  CHECK(GuessAfter(6, 4, 20) == 2.0 / 14);  // 7 .. 20: the 7th value is the 19th
  CHECK(GuessAfter(15, 4, 20) == 1.0 / 5);
  CHECK(GuessAfter(19, 4, 20) == 1);
}

TEST_CASE("the reach bound is a guess on traces out of reach and 1 on the others") {
  CHECK(ReachBound(0, kGuess) == kGuess);
  CHECK(ReachBound(1, kGuess) == 1.0);
  CHECK(std::abs(ReachBound(0.6, kGuess) - WithGuess(0.6)) < 1e-15);  // a few roundings of values of order 1
}

TEST_CASE("a policy that times its restatements stands far above the memoryless ceiling at its own rate") {
  const ChainProblem problem{7, 3, 5, 20};
  const TraceMeasures timed = MeasureTrace(problem, TraceWith(problem, 1U << 7 | 1U << 14));  // before steps 8 and 15
  CHECK_FALSE(LosesAfter(timed.runs, ReachOf(3, 16)));  // so that g = 1, and the reach bound 1, at a rate of 0.1
  CHECK(MemorylessCeilingBySteps(3, 16, 2.0 / 20, 4, 20).back() < 0.4);
}

TEST_CASE("the ceiling equals the sum over all patterns of restatements") {
  for (int reach = 0; reach <= 48; ++reach) {
    for (const double p : {0.0, 0.2, 0.7, 1.0}) {
      // One layer with window reach + 1 has this reach.
      const std::vector<double> ceiling = MemorylessCeilingBySteps(1, reach + 1, p, 1, 8);
      REQUIRE(ceiling.size() == 8);
      for (int n = 1; n <= 8; ++n) {
        CAPTURE(reach);
        CAPTURE(p);
        CAPTURE(n);
        // Sums of at most 2^8 rounded products of at most 9 factors: errors below 2^8 * 9 * 2^-53 < 1e-12.
        CHECK(std::abs(ceiling[static_cast<std::size_t>(n - 1)] - CeilingByEnumeration(reach, p, n, 8)) < 1e-12);
      }
    }
  }
}

TEST_CASE("the ceiling is what sampled traces of the data leave possible, on average") {
  constexpr int kSamples = 2000;
  for (const auto& shape : std::vector<std::pair<int, int>>{{2, 16}, {3, 12}, {4, 16}}) {
    const int layers = shape.first, window = shape.second;
    for (const double p : {0.1, 0.35}) {
      const std::vector<double> ceiling = MemorylessCeilingBySteps(layers, window, p, 4, 32);
      for (const int n : {4, 9, 16, 32}) {
        const ChainProblem problem{7, 3, 5, n};
        double chances = 0;
        for (std::uint32_t i = 0; i < kSamples; ++i) {
          const std::string trace = TraceOf(problem, p, StreamKey(1, Purpose::kData, i, static_cast<std::uint32_t>(n)));
          const std::optional<int> lost = LosesByReading(problem, trace, layers * (window - 1));
          chances += lost ? GuessByTrial(*lost, 4, 32) : 1;
        }
        const double mean = ceiling[static_cast<std::size_t>(n - 4)];
        // Five standard deviations: what lies in [0, 1] has at most the variance of a share. 1e-9 covers exact ones.
        const double bound = 5 * std::sqrt(std::max(0.0, mean * (1 - mean)) / kSamples) + 1e-9;
        CAPTURE(layers);
        CAPTURE(p);
        CAPTURE(n);
        CHECK(std::abs(chances / kSamples - mean) < bound);
      }
    }
  }
}

TEST_CASE("the ceiling agrees with an independent simulation of 20000 traces") {
  struct Row {
    int layers, window, n_max;
    std::vector<double> ceiling;  // at p = 0, 0.1, 0.2, 0.35, 0.6, 0.8
  };
  const std::vector<double> rates = {0.0, 0.1, 0.2, 0.35, 0.6, 0.8};
  for (const Row& row : std::vector<Row>{{2, 16, 16, {0.23, 0.33, 0.45, 0.67, 0.93, 0.99}},
                                         {3, 12, 16, {0.31, 0.42, 0.56, 0.78, 0.97, 1.00}},
                                         {2, 14, 16, {0.16, 0.23, 0.32, 0.49, 0.81, 0.97}},
                                         {3, 16, 24, {0.33, 0.49, 0.67, 0.88, 0.99, 1.00}},
                                         {4, 16, 32, {0.35, 0.58, 0.80, 0.96, 1.00, 1.00}}}) {
    for (std::size_t i = 0; i < rates.size(); ++i) {
      const double exact = MeanMemorylessCeiling(row.layers, row.window, rates[i], 4, row.n_max);
      // Half a unit of the printed digit and four standard deviations of the simulation's share.
      const double bound = 0.005 + 4 * std::sqrt(std::max(0.0, exact * (1 - exact)) / 20000) + 1e-12;
      CAPTURE(row.layers);
      CAPTURE(row.window);
      CAPTURE(rates[i]);
      CHECK(std::abs(exact - row.ceiling[i]) < bound);
    }
  }
}

TEST_CASE("the quick preset's data leave 0.643 possible") {
  const double ceiling = MeanMemorylessCeiling(3, 16, 0.15, 4, 20);
  CHECK(ceiling > 0.6425);
  CHECK(ceiling < 0.6435);
}

TEST_CASE("the ceiling rises with the restatement rate, the window and the layers") {
  for (int layers = 1; layers <= 4; ++layers) {
    for (int window = 1; window <= 24; ++window) {
      double previous = 0;
      for (const double p : {0.0, 0.05, 0.2, 0.5, 0.8, 1.0}) {
        const double ceiling = MeanMemorylessCeiling(layers, window, p, 4, 16);
        // 1e-12: values that are equal in exact arithmetic may differ by rounding.
        CHECK(ceiling >= previous - 1e-12);
        CHECK(MeanMemorylessCeiling(layers + 1, window, p, 4, 16) >= ceiling - 1e-12);
        CHECK(MeanMemorylessCeiling(layers, window + 1, p, 4, 16) >= ceiling - 1e-12);
        CHECK(ceiling >= kGuess - 1e-12);
        CHECK(ceiling <= 1 + 1e-12);
        previous = ceiling;
      }
    }
  }
}

TEST_CASE("the ceiling is a guess without reach, and 1 with reach for everything") {
  CHECK(MeanMemorylessCeiling(4, 1, 0.5, 4, 15) == kGuess);
  CHECK(MeanMemorylessCeiling(4, 1, 0.5, 4, 4) == 1.0);    // there is nothing to guess
  CHECK(MeanMemorylessCeiling(1, 14, 1.0, 4, 15) == 1.0);  // a restated n is 13 tokens away where it is copied
  CHECK(MeanMemorylessCeiling(1, 13, 1.0, 4, 15) == kGuess);
  CHECK(MeanMemorylessCeiling(1, 84, 0.0, 4, 16) == 1.0);  // 5 * 16 + 3 = 83 tokens back to the prompt
  CHECK(MeanMemorylessCeiling(1, 83, 0.0, 4, 16) == 1.0);  // who goes on after 15 of at most 16 steps knows n
  CHECK(MeanMemorylessCeiling(1, 78, 0.0, 4, 16) < 1.0);
  CHECK(MeanMemorylessCeiling(64, 1 << 30, 0.0, 4, 16) == 1.0);
  CHECK(MeanMemorylessCeiling(2, 16, 1.7, 4, 16) == MeanMemorylessCeiling(2, 16, 1.0, 4, 16));
}

TEST_CASE("a ceiling that can't be is refused") {
  CHECK_THROWS_AS(MeanMemorylessCeiling(2, 0, 0.2, 4, 16), Error);
  CHECK_THROWS_AS(MeanMemorylessCeiling(0, 16, 0.2, 4, 16), Error);
  CHECK_THROWS_AS(MeanMemorylessCeiling(2, 16, -0.1, 4, 16), Error);
  CHECK_THROWS_AS(MeanMemorylessCeiling(2, 16, std::nan(""), 4, 16), Error);
  CHECK_THROWS_AS(MeanMemorylessCeiling(2, 16, 0.2, 0, 16), Error);
  CHECK_THROWS_AS(MeanMemorylessCeiling(2, 16, 0.2, 5, 4), Error);
}
