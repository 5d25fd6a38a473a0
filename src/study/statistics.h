// SPDX-License-Identifier: Apache-2.0
// Intervals for accuracies and for differences between arms.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "study/results.h"

namespace swarr {

// The Wilson score interval of a share of k successes in n trials (E. B. Wilson, JASA 22, 1927), 95% by default:
//   (k + z^2/2 +- z sqrt(k (n - k) / n + z^2/4)) / (n + z^2).
// [0, 1] for n = 0. Unlike the normal approximation it stays inside [0, 1] and is not empty at k = 0 and k = n.
constexpr double kZ95 = 1.959963984540054;
Interval WilsonInterval(std::int64_t successes, std::int64_t trials, double z = kZ95);

constexpr int kBootstrapResamples = 2000;

// A paired hierarchical bootstrap of mean accuracies (sampled). A resample draws seeds with replacement, as many as
// there are, and for every drawn seed its problems with replacement; all arms share the draws, so that what they have
// in common cancels in differences. An arm's mean weighs seeds equally. With one seed only problems vary, and an
// interval does not cover what another training run would give. Seeds that lack one of the arms are left out, and
// problems that not all arms of the seed have. Draws come from Philox (Purpose::kBootstrap), one stream a resample: the
// same for the same data, whatever the order of the rows.
class PairedBootstrap {
 public:
  PairedBootstrap(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms,
                  int resamples = kBootstrapResamples);

  // A function of the arms' means, in the constructor's order. NaN where it is undefined.
  using Statistic = std::function<double(const std::vector<double>& means)>;

  // The statistic of the data (plug-in, not the mean over resamples) and its percentile interval from the 2.5%
  // and 97.5% points of the resamples, linearly interpolated. If the statistic is undefined in any resample, so is the
  // interval. Everything is undefined if no seed has all arms.
  Estimate Of(const Statistic& statistic) const;

 private:
  std::vector<double> observed_;                // by arm; empty if no seed has all arms
  std::vector<std::vector<double>> resampled_;  // by resample and arm
};

// Recovery is undefined (NaN) unless gap_sft > 0: where SFT leaves no gap there is nothing to recover. Accordingly its
// interval is undefined if some resample has no gap. Estimates whose arms are missing are undefined.
StudySummary Summarize(const std::vector<ArmRun>& runs);

// One arm over its seeds: means of the runs' numbers. The accuracy's interval is Wilson's for one seed, and for several
// the bootstrap's, which covers the spread between seeds.
struct ArmMeans {
  std::string arm;
  std::int64_t seeds = 0;
  Estimate accuracy;
  double accuracy_greedy = 0;
  double restatement_rate = 0;
  double mean_length = 0;
  double truncated = 0;
  double facts_in_window = 0;
  double dependency_distance_mean = 0;
  std::optional<double> ceiling;  // none if any run has none
};

// In the order in which the arms first appear.
std::vector<ArmMeans> MeansByArm(const std::vector<ArmRun>& runs);

// The Wilson interval of a run's sampled accuracy.
Interval AccuracyInterval(const ArmRun& run);

}  // namespace swarr
