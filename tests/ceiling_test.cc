// SPDX-License-Identifier: Apache-2.0
#include "task/ceiling.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "task/chain.h"
#include "tensor/philox.h"

using namespace swarr;

namespace {

constexpr double kGuess = 1.0 / kModulus;

double WithGuess(double known) { return known + (1 - known) * kGuess; }

// The problem a = 7, b = 3, x0 = 5 with n steps. Its values are C 9 1 A 8 7 0 3 B.
bool KeepsInReach(int n, std::string_view completion, std::int64_t reach) {
  return InReach(MeasureTrace({7, 3, 5, n}, completion), reach);
}

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

// The ceiling by its definition: a sum over all 2^n patterns of restatements, each measured on its text.
double CeilingByEnumeration(int reach, double p, int n) {
  const ChainProblem problem{7, 3, 5, n};
  double known = 0;
  for (unsigned pattern = 0; pattern < 1U << n; ++pattern) {
    if (!InReach(MeasureTrace(problem, TraceWith(problem, pattern)), reach)) continue;
    double weight = 1;
    for (int t = 0; t < n; ++t) weight *= pattern >> t & 1U ? p : 1 - p;
    known += weight;
  }
  return WithGuess(known);
}

}  // namespace

TEST_CASE("the reach is what L layers relay, and a trace is in it to the last token") {
  CHECK(ReachOf(1, 16) == 15);
  CHECK(ReachOf(3, 16) == 45);
  CHECK(ReachOf(3, 1) == 0);
  // Distances: a 11 and 16, b 9 and 14, n 13.
  const char* trace = "01:C,02:9,#9";
  CHECK(KeepsInReach(2, trace, 16));
  CHECK_FALSE(KeepsInReach(2, trace, 15));
  CHECK(KeepsInReach(2, trace, ReachOf(2, 9)));        // beyond the window of 9, but relayed
  CHECK_FALSE(KeepsInReach(2, trace, ReachOf(3, 6)));  // one token short
}

TEST_CASE("a trace without restatement is in reach for seven steps of three layers with W = 16, and no longer") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(7, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,#0", reach));  // a at 5 * 7 + 6 = 41
  CHECK_FALSE(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,#3", reach));
}

TEST_CASE("a restatement keeps a trace in reach if it comes in time") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a7b3n08]08:3,#3", reach));
  CHECK(KeepsInReach(8, "[a7b3n08]01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,#3", reach));  // a at 5 * 8 + 4 = 44
  CHECK_FALSE(KeepsInReach(9, "[a7b3n09]01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,09:B,#B", reach));
  CHECK_FALSE(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:3,[a7b3n08]#3", reach));
}

TEST_CASE("a wrong trace is judged as it was written") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(7, "01:C,02:0,03:0,04:0,05:0,06:0,07:0,#0", reach));  // wrong values
  CHECK_FALSE(KeepsInReach(8, "01:C,02:0,03:0,04:0,05:0,06:0,07:0,08:0,#0", reach));
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,05:8,06:7,07:0,08:3,#3", reach));  // a step left out, right answer or not
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,05:8,06:7,07:0,08:5,#5", reach));
  CHECK(KeepsInReach(9, "#B", reach));  // all steps left out
  // A miscopied restatement stands where one is needed: what is wrong with it is no lack of sight.
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a6b3n08]08:3,#3", reach));
  CHECK(KeepsInReach(8, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,[a7b3n0808:3,#3", reach));
}

TEST_CASE("a trace that was cut off needs what it has written, and an empty one nothing") {
  const std::int64_t reach = ReachOf(3, 16);
  CHECK(KeepsInReach(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08", reach));
  CHECK_FALSE(KeepsInReach(9, "01:C,02:9,03:1,04:A,05:8,06:7,07:0,08:", reach));
  CHECK(KeepsInReach(9, "", 0));
  CHECK(KeepsInReach(9, "[a7b3n09]", 0));
}

TEST_CASE("the reach bound is a guess on traces out of reach and 1 on the others") {
  CHECK(ReachBound(0, kGuess) == kGuess);
  CHECK(ReachBound(1, kGuess) == 1.0);
  CHECK(std::abs(ReachBound(0.6, kGuess) - WithGuess(0.6)) < 1e-15);  // a few roundings of values of order 1
}

TEST_CASE("a policy that times its restatements stands far above the memoryless ceiling at its own rate") {
  const ChainProblem problem{7, 3, 5, 20};
  const TraceMeasures timed = MeasureTrace(problem, TraceWith(problem, 1U << 7 | 1U << 15));  // before steps 8 and 16
  CHECK(InReach(timed, ReachOf(3, 16)));  // so that g = 1, and the reach bound 1, at a rate of 0.1
  CHECK(MeanMemorylessCeiling(3, 16, 2.0 / 20, 20, 20) < 0.3);
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
        // Sums of at most 2^8 rounded products of at most 8 factors: errors below 2^8 * 8 * 2^-53 < 1e-12.
        CHECK(std::abs(ceiling[static_cast<std::size_t>(n - 1)] - CeilingByEnumeration(reach, p, n)) < 1e-12);
      }
    }
  }
}

TEST_CASE("the ceiling is the share of sampled traces whose facts all lie within reach") {
  constexpr int kSamples = 2000;
  for (const auto& shape : std::vector<std::pair<int, int>>{{2, 16}, {3, 12}, {4, 16}}) {
    const int layers = shape.first, window = shape.second;
    for (const double p : {0.1, 0.35}) {
      const std::vector<double> ceiling = MemorylessCeilingBySteps(layers, window, p, 4, 32);
      for (const int n : {4, 9, 16, 32}) {
        const ChainProblem problem{7, 3, 5, n};
        int within = 0;
        for (std::uint32_t i = 0; i < kSamples; ++i) {
          const std::string trace = TraceOf(problem, p, StreamKey(1, Purpose::kData, i, static_cast<std::uint32_t>(n)));
          within += InReach(MeasureTrace(problem, trace), layers * (window - 1)) ? 1 : 0;
        }
        const double known = (ceiling[static_cast<std::size_t>(n - 4)] - kGuess) / (1 - kGuess);
        // Five standard deviations of a binomial share; 1e-9 covers shares that are exactly 0 or 1.
        const double bound = 5 * std::sqrt(std::max(0.0, known * (1 - known)) / kSamples) + 1e-9;
        CAPTURE(layers);
        CAPTURE(p);
        CAPTURE(n);
        CHECK(std::abs(static_cast<double>(within) / kSamples - known) < bound);
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
  for (const Row& row : std::vector<Row>{{2, 16, 16, {0.15, 0.28, 0.46, 0.72, 0.96, 1.00}},
                                         {3, 12, 16, {0.22, 0.35, 0.52, 0.76, 0.97, 1.00}},
                                         {2, 14, 16, {0.15, 0.24, 0.36, 0.59, 0.91, 0.99}},
                                         {3, 16, 24, {0.26, 0.46, 0.69, 0.91, 1.00, 1.00}},
                                         {4, 16, 32, {0.30, 0.57, 0.82, 0.97, 1.00, 1.00}}}) {
    for (std::size_t i = 0; i < rates.size(); ++i) {
      const double exact = MeanMemorylessCeiling(row.layers, row.window, rates[i], 4, row.n_max);
      // Half a unit of the printed digit and four standard deviations of the simulation's share.
      const double bound = 0.005 + 4 * std::sqrt(exact * (1 - exact) / 20000) + 1e-12;
      CAPTURE(row.layers);
      CAPTURE(row.window);
      CAPTURE(rates[i]);
      CHECK(std::abs(exact - row.ceiling[i]) < bound);
    }
  }
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
  CHECK(MeanMemorylessCeiling(4, 1, 0.5, 4, 4) == kGuess);
  CHECK(MeanMemorylessCeiling(1, 1, 1.0, 1, 1) == kGuess);
  CHECK(MeanMemorylessCeiling(1, 10, 1.0, 4, 16) == 1.0);  // a restated fact is 9 tokens away
  CHECK(MeanMemorylessCeiling(1, 9, 1.0, 4, 4) == kGuess);
  CHECK(MeanMemorylessCeiling(1, 87, 0.0, 4, 16) == 1.0);  // 5 * 16 + 6 = 86 tokens back to the prompt
  CHECK(MeanMemorylessCeiling(1, 86, 0.0, 4, 16) < 1.0);
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
