// SPDX-License-Identifier: Apache-2.0
// Intervals for accuracies and for differences between arms.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "study/results.h"

namespace swarr {

// The two-sided 95% point of the normal distribution.
constexpr double kZ95 = 1.959963984540054;

// The 95% Wilson score interval of a share of k successes in n trials (E. B. Wilson, JASA 22, 1927), with z = kZ95:
//   (k + z^2/2 +- z sqrt(k (n - k) / n + z^2/4)) / (n + z^2).
// [0, 1] for n = 0. Unlike the normal approximation it stays inside [0, 1] and is not empty at k = 0 and k = n.
Interval WilsonInterval(std::int64_t successes, std::int64_t trials);

// The two-sided 95% point of Student's t distribution with this many degrees of freedom, at least 1: 12.706 for 1,
// 2.776 for 4. By bisection of the distribution's finite sums (Abramowitz and Stegun 26.7.3 and 26.7.4).
double StudentT95(int degrees);

constexpr int kBootstrapResamples = 2000;

// A paired hierarchical bootstrap of the arms' shares of problems with an outcome: right in the sampled answer, so that
// the shares are accuracies, or another one. A resample draws seeds with replacement, as many as
// there are, and for every drawn seed its problems with replacement. All arms share the draws, so what they have in
// common cancels in differences. An arm's mean weighs seeds equally. With one seed only the problems vary: the interval
// does not cover what another training run would give. A seed that lacks one of the arms is left out, and so is a
// problem that one of the seed's arms lacks. Each resample has its own Philox stream (Purpose::kBootstrap), so the
// draws are the same for the same data, whatever the order of the rows.
class PairedBootstrap {
 public:
  PairedBootstrap(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms,
                  bool ProblemOutcome::*outcome = &ProblemOutcome::correct_sampled);

  // A function of the arms' means, in the constructor's order. NaN where it is undefined.
  using Statistic = std::function<double(const std::vector<double>& means)>;

  // The statistic of the data (plug-in, not the mean over resamples) and its percentile interval: the 2.5% and 97.5%
  // points of the resamples, linearly interpolated. The interval is undefined if the statistic is undefined in any
  // resample. Everything is undefined if no seed has all arms. ci95_seeds is the t interval of the statistic of n
  // single seeds: their mean +- t(n - 1) s / sqrt(n). Their mean is the estimate's where the statistic is linear.
  //
  // No interval is empty. Where all resamples agree, as for two arms that are always right, what never happened in the
  // N problems of all seeds may still happen: in a share b of others, the upper end of WilsonInterval(0, N). The
  // interval then reaches from the least to the largest value that the statistic takes at means (1 - b) observed + b x,
  // over all outcomes x of the arms in that share: of one arm that is always right it is Wilson's, of a difference that
  // is always 0 it is [-b, b]. Where all seeds agree they show no spread, and ci95_seeds is ci95.
  Estimate Of(const Statistic& statistic) const;

 private:
  Interval OverProblems(const Statistic& statistic) const;
  std::vector<double> WithUnseen(const Statistic& statistic) const;  // for each x

  std::int64_t rows_ = 0;                       // of all seeds
  std::vector<double> observed_;                // by arm; empty if no seed has all arms
  std::vector<std::vector<double>> of_seed_;    // by seed and arm
  std::vector<std::vector<double>> resampled_;  // by resample and arm
};

// Recovery is undefined (NaN) unless gap_sft > 0: where SFT leaves no gap there is nothing to recover. Its interval is
// undefined if some resample has no gap. An estimate is undefined if one of its arms is missing.
StudySummary Summarize(const std::vector<ArmRun>& runs);

// One arm over its seeds: means of the runs' numbers; ceiling and bound if all runs have one. The accuracy's interval
// is the t interval over seeds, or Wilson's over all problems for one seed and where all seeds agree.
struct ArmMeans : ArmMeasures {
  std::string arm;
  Interval accuracy_ci95;
};

// In the order in which the arms first appear.
std::vector<ArmMeans> MeansByArm(const std::vector<ArmRun>& runs);

// The Wilson interval of a run's sampled accuracy.
Interval AccuracyInterval(const ArmRun& run);

// The accuracy with its Wilson interval; undefined without traces.
Estimate AccuracyOf(const Tally& tally);

}  // namespace swarr
