// SPDX-License-Identifier: Apache-2.0
#include "task/ceiling.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/check.h"
#include "task/chain.h"

namespace swarr {
namespace {

// Tokens from the last digit of n to the query that uses it, with no step between: where the trace goes on or stops,
// and where it restates n.
constexpr int kChoiceFromPrompt = kPromptLength - 1 - kOffsetN;
constexpr int kChoiceFromRestatement = kRestatementLength - 1 - (1 + kOffsetN);
constexpr int kCopyFromPrompt = kPromptLength;  // the digits lie one more apart, and the query is before the copy
constexpr int kCopyFromRestatement = kRestatementLength - 1;

// How long a run of steps may be that begins at some mention of n.
struct RunLimits {
  int steps = 0;
  int before_restatement = 0;  // -1: n can't be restated even at once
};

// More than `most` steps never matter.
int StepsWithin(std::int64_t reach, int distance, int most) {
  if (reach < distance) return -1;
  return static_cast<int>(std::min<std::int64_t>((reach - distance) / kStepLength, most));
}

// Of the run from the prompt, and of one from a restatement.
std::array<RunLimits, 2> LimitsOf(std::int64_t reach, int most) {
  return {{{.steps = std::max(0, StepsWithin(reach, kChoiceFromPrompt, most)),
            .before_restatement = StepsWithin(reach, kCopyFromPrompt, most)},
           {.steps = std::max(0, StepsWithin(reach, kChoiceFromRestatement, most)),
            .before_restatement = StepsWithin(reach, kCopyFromRestatement, most)}}};
}

// Traces that restate at random, one step after the other: the probabilities of the lengths of their current runs.
class MemorylessTraces {
 public:
  MemorylessTraces(const std::array<RunLimits, 2>& limits, double p, int most_steps)
      : limits_(limits), p_(p), later_(static_cast<std::size_t>(most_steps) + 1) {}

  // Writes the next step. Returns the probability that n is lost by that.
  double Step() {
    double lost = 0, restated = 0;
    in_reach_ = 0;
    const auto advance = [&](double& run, const RunLimits& limits, int length) {
      (length <= limits.before_restatement ? restated : lost) += p_ * run;
      run *= 1 - p_;
      (length < limits.steps ? in_reach_ : lost) += run;
      if (length >= limits.steps) run = 0;
    };
    advance(first_, limits_[0], steps_);
    for (int length = steps_; length >= 1; --length) {
      double& run = later_[static_cast<std::size_t>(length)];
      advance(run, limits_[1], length);
      std::swap(run, later_[static_cast<std::size_t>(length) + 1]);
    }
    (limits_[1].steps >= 1 ? in_reach_ : lost) += restated;
    later_[1] = limits_[1].steps >= 1 ? restated : 0.0;
    ++steps_;
    return lost;
  }

  double in_reach() const { return in_reach_; }

 private:
  const std::array<RunLimits, 2> limits_;
  const double p_;
  int steps_ = 0;
  double in_reach_ = 1;
  double first_ = 1;           // of no restatement so far
  std::vector<double> later_;  // by the steps since the last restatement
};

}  // namespace

std::int64_t ReachOf(int layers, int window) {
  SWARR_CHECK(layers >= 1 && window >= 1, "ceiling: there are ", layers, " layers with a window of ", window,
              "; give at least one of each, and none of this for full attention, which has no ceiling.");
  return std::int64_t{layers} * (window - 1);
}

std::optional<int> LosesAfter(std::span<const int> runs, std::int64_t reach) {
  const int steps = std::accumulate(runs.begin(), runs.end(), 0);
  const std::array<RunLimits, 2> limits = LimitsOf(reach, steps);
  int before = 0;
  for (std::size_t i = 0; i < runs.size() && before < steps; ++i) {
    const RunLimits& limit = limits[i == 0 ? 0 : 1];
    if (runs[i] > limit.steps) return before + limit.steps;
    before += runs[i];
    if (before < steps && runs[i] > limit.before_restatement) return before;
  }
  return std::nullopt;
}

double GuessAfter(int t, int n_min, int n_max) {
  SWARR_CHECK(n_min <= n_max, "ceiling: the number of steps runs from ", n_min, " to ", n_max, ".");
  const int left = n_max - std::max(t, n_min - 1);
  if (left < 1) return 1;
  const int most = (left + kOrbitLength - 1) / kOrbitLength;  // of these numbers of steps have one value
  return static_cast<double>(most) / left;
}

double ReachBound(double share_in_reach, double guess) { return share_in_reach + (1 - share_in_reach) * guess; }

std::vector<double> MemorylessCeilingBySteps(int layers, int window, double restate_probability, int n_min, int n_max) {
  const std::int64_t reach = ReachOf(layers, window);
  SWARR_CHECK(restate_probability >= 0, "ceiling: the restatement rate is ", restate_probability,
              "; give one from 0 on.");
  SWARR_CHECK(n_min >= 1 && n_min <= n_max, "ceiling: the number of steps runs from ", n_min, " to ", n_max,
              "; give a range that starts at 1 or later and is not empty.");
  MemorylessTraces traces(LimitsOf(reach, n_max), std::min(restate_probability, 1.0), n_max);
  double guessed = 0;
  std::vector<double> ceiling;
  for (int n = 1; n <= n_max; ++n) {
    guessed += traces.Step() * GuessAfter(n - 1, n_min, n_max);
    if (n >= n_min) ceiling.push_back(traces.in_reach() + guessed);
  }
  return ceiling;
}

}  // namespace swarr
