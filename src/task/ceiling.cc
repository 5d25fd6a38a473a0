// SPDX-License-Identifier: Apache-2.0
#include "task/ceiling.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace swarr {
namespace {

// Distance from the digit of a to the ':' of the first step after its mention; each further step adds kStepLength.
constexpr int kFirstDistanceFromPrompt = kPromptLength + kColonOffset - kOffsetA;
constexpr int kFirstDistanceFromRestatement = kRestatementLength + kColonOffset - (1 + kOffsetA);

// How many steps one mention can serve. More than `most` steps never matter.
int StepsServed(std::int64_t reach, int first_distance, int most) {
  if (reach < first_distance) return 0;
  return static_cast<int>(std::min<std::int64_t>((reach - first_distance) / kStepLength + 1, most));
}

}  // namespace

std::int64_t ReachOf(int layers, int window) {
  SWARR_CHECK(layers >= 1 && window >= 1, "ceiling: there are ", layers, " layers with a window of ", window,
              "; give at least one of each, and none of this for full attention, which has no ceiling.");
  return std::int64_t{layers} * (window - 1);
}

bool InReach(const TraceMeasures& measures, std::int64_t reach) {
  const int from_prompt = StepsServed(reach, kFirstDistanceFromPrompt, measures.steps);
  const int from_restatement = StepsServed(reach, kFirstDistanceFromRestatement, measures.steps);
  return measures.runs.front() <= from_prompt &&
         std::all_of(measures.runs.begin() + 1, measures.runs.end(), [=](int run) { return run <= from_restatement; });
}

double ReachBound(double share_in_reach, double guess) { return share_in_reach + (1 - share_in_reach) * guess; }

std::vector<double> MemorylessCeilingBySteps(int layers, int window, double restate_probability, int n_min, int n_max) {
  const std::int64_t reach = ReachOf(layers, window);
  SWARR_CHECK(restate_probability >= 0, "ceiling: the restatement rate is ", restate_probability,
              "; give one from 0 on.");
  SWARR_CHECK(n_min >= 1 && n_min <= n_max, "ceiling: the number of steps runs from ", n_min, " to ", n_max,
              "; give a range that starts at 1 or later and is not empty.");
  const double p = std::min(restate_probability, 1.0);
  const int from_prompt = StepsServed(reach, kFirstDistanceFromPrompt, n_max);
  const int from_restatement = StepsServed(reach, kFirstDistanceFromRestatement, n_max);

  // good[r]: probability that the trace is in reach so far and the current mention can serve r further steps.
  std::vector<double> good(static_cast<std::size_t>(from_restatement) + 1, 0.0);
  good[static_cast<std::size_t>(from_prompt)] = 1.0;
  std::vector<double> ceiling;
  for (int n = 1; n <= n_max; ++n) {
    const double alive = std::accumulate(good.begin(), good.end(), 0.0);
    for (std::size_t r = 0; r + 1 < good.size(); ++r) good[r] = (1 - p) * good[r + 1];
    good.back() = 0.0;
    if (from_restatement > 0) good[static_cast<std::size_t>(from_restatement) - 1] += p * alive;
    const double known = std::accumulate(good.begin(), good.end(), 0.0);
    if (n >= n_min) ceiling.push_back(ReachBound(known, kChainGuess));
  }
  return ceiling;
}

double MeanMemorylessCeiling(int layers, int window, double restate_probability, int n_min, int n_max) {
  const std::vector<double> ceiling = MemorylessCeilingBySteps(layers, window, restate_probability, n_min, n_max);
  return std::accumulate(ceiling.begin(), ceiling.end(), 0.0) / static_cast<double>(ceiling.size());
}

}  // namespace swarr
