// SPDX-License-Identifier: Apache-2.0
#include "task/ceiling.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "task/chain.h"
#include "tensor/philox.h"

using namespace swarr;

namespace {

constexpr double kGuess = 1.0 / kModulus;

double WithGuess(double known) { return known + (1 - known) * kGuess; }

bool AllWithin(const TraceMeasures& measures, int reach) {
  return std::all_of(measures.distances.begin(), measures.distances.end(), [&](int d) { return d <= reach; });
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
    if (!AllWithin(MeasureTrace(problem, TraceWith(problem, pattern)), reach)) continue;
    double weight = 1;
    for (int t = 0; t < n; ++t) weight *= pattern >> t & 1U ? p : 1 - p;
    known += weight;
  }
  return WithGuess(known);
}

}  // namespace

TEST_CASE("the ceiling equals the sum over all patterns of restatements") {
  for (int reach = 0; reach <= 48; ++reach) {
    for (const double p : {0.0, 0.2, 0.7, 1.0}) {
      // One layer with window reach + 1 has this reach.
      const std::vector<double> ceiling = ReceptiveFieldCeilingBySteps(1, reach + 1, p, 1, 8);
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
      const std::vector<double> ceiling = ReceptiveFieldCeilingBySteps(layers, window, p, 4, 32);
      for (const int n : {4, 9, 16, 32}) {
        const ChainProblem problem{7, 3, 5, n};
        int within = 0;
        for (std::uint32_t i = 0; i < kSamples; ++i) {
          const std::string trace = TraceOf(problem, p, StreamKey(1, Purpose::kData, i, static_cast<std::uint32_t>(n)));
          within += AllWithin(MeasureTrace(problem, trace), layers * (window - 1)) ? 1 : 0;
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
      const double exact = ReceptiveFieldCeiling(row.layers, row.window, rates[i], 4, row.n_max);
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
        const double ceiling = ReceptiveFieldCeiling(layers, window, p, 4, 16);
        // 1e-12: values that are equal in exact arithmetic may differ by rounding.
        CHECK(ceiling >= previous - 1e-12);
        CHECK(ReceptiveFieldCeiling(layers + 1, window, p, 4, 16) >= ceiling - 1e-12);
        CHECK(ReceptiveFieldCeiling(layers, window + 1, p, 4, 16) >= ceiling - 1e-12);
        CHECK(ceiling >= kGuess - 1e-12);
        CHECK(ceiling <= 1 + 1e-12);
        previous = ceiling;
      }
    }
  }
}

TEST_CASE("the ceiling is a guess without reach, and 1 with reach for everything") {
  CHECK(ReceptiveFieldCeiling(4, 1, 0.5, 4, 4) == kGuess);
  CHECK(ReceptiveFieldCeiling(1, 1, 1.0, 1, 1) == kGuess);
  CHECK(ReceptiveFieldCeiling(1, 10, 1.0, 4, 16) == 1.0);  // a restated fact is 9 tokens away
  CHECK(ReceptiveFieldCeiling(1, 9, 1.0, 4, 4) == kGuess);
  CHECK(ReceptiveFieldCeiling(1, 87, 0.0, 4, 16) == 1.0);  // 5 * 16 + 6 = 86 tokens back to the prompt
  CHECK(ReceptiveFieldCeiling(1, 86, 0.0, 4, 16) < 1.0);
  CHECK(ReceptiveFieldCeiling(64, 1 << 30, 0.0, 4, 16) == 1.0);
  CHECK(ReceptiveFieldCeiling(2, 16, 1.7, 4, 16) == ReceptiveFieldCeiling(2, 16, 1.0, 4, 16));
}

TEST_CASE("a ceiling that can't be is refused") {
  CHECK_THROWS_AS(ReceptiveFieldCeiling(2, 0, 0.2, 4, 16), Error);
  CHECK_THROWS_AS(ReceptiveFieldCeiling(0, 16, 0.2, 4, 16), Error);
  CHECK_THROWS_AS(ReceptiveFieldCeiling(2, 16, -0.1, 4, 16), Error);
  CHECK_THROWS_AS(ReceptiveFieldCeiling(2, 16, std::nan(""), 4, 16), Error);
  CHECK_THROWS_AS(ReceptiveFieldCeiling(2, 16, 0.2, 0, 16), Error);
  CHECK_THROWS_AS(ReceptiveFieldCeiling(2, 16, 0.2, 5, 4), Error);
}
