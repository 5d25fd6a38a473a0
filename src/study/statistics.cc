// SPDX-License-Identifier: Apache-2.0
#include "study/statistics.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numbers>
#include <set>
#include <span>

#include "base/check.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

// The arms' outcomes (0 or 1) under one seed: one row for each problem that all arms share, a column per arm.
using SeedTable = std::vector<std::vector<std::uint8_t>>;

SeedTable TableOf(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms, std::uint64_t seed,
                  bool ProblemOutcome::*outcome) {
  // Keyed by problem, so that the order of rows does not matter.
  std::map<std::int64_t, std::vector<std::uint8_t>> by_problem;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    const auto run = std::ranges::find_if(runs, [&](const ArmRun& r) { return r.arm == arms[a] && r.seed == seed; });
    if (run == runs.end()) return {};
    for (const ProblemOutcome& o : run->outcomes) {
      std::vector<std::uint8_t>& row = by_problem[o.problem];
      SWARR_CHECK(row.size() <= a, "arm ", arms[a], " has two outcomes for problem ", o.problem, " of seed ", seed,
                  "; outcomes must have one row per arm, seed and problem");
      if (row.size() == a) row.push_back(o.*outcome ? 1 : 0);
    }
  }
  SeedTable table;
  for (auto& [problem, row] : by_problem) {
    if (row.size() == arms.size()) table.push_back(std::move(row));
  }
  return table;
}

// Adds the arms' shares to `means`. They are taken over the problems that `next_problem` yields, as many as the
// table has.
template <class NextProblem>
void AddShares(const SeedTable& table, double weight, NextProblem&& next_problem, std::vector<double>& means) {
  std::vector<std::int64_t> counts(means.size(), 0);
  for (std::size_t i = 0; i < table.size(); ++i) {
    const std::vector<std::uint8_t>& row = table[next_problem(i)];
    for (std::size_t a = 0; a < row.size(); ++a) counts[a] += row[a];
  }
  for (std::size_t a = 0; a < means.size(); ++a) {
    means[a] += weight * static_cast<double>(counts[a]) / static_cast<double>(table.size());
  }
}

double Percentile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

// The share of the t distribution between -tan(angle) sqrt(degrees) and its mirror image.
double StudentShare(double angle, int degrees) {
  const double sine = std::sin(angle), cosine = std::cos(angle);
  const bool odd = degrees % 2 == 1;
  double term = odd ? sine * cosine : sine, sum = degrees == 1 ? 0 : term;
  for (int j = odd ? 3 : 2; j <= degrees - 2; j += 2) {
    term *= cosine * cosine * (j - 1.0) / j;
    sum += term;
  }
  return odd ? 2 / std::numbers::pi * (angle + sum) : sum;
}

// Whether the values differ by no more than rounding: shares of up to 10^5 problems, their differences and the
// quotients of these differ by 10^-10 or more, if at all.
bool AreEqual(const std::vector<double>& values) {
  return std::ranges::all_of(values, [&](double v) { return std::abs(v - values.front()) <= 1e-12; });
}

// The t interval of n values; undefined for fewer than two, and if one is undefined.
Interval StudentInterval(const std::vector<double>& values) {
  const std::size_t n = values.size();
  if (n < 2) return {};
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / static_cast<double>(n);
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(n - 1));
  const double half = StudentT95(static_cast<int>(n - 1)) * deviation / std::sqrt(static_cast<double>(n));
  if (!std::isfinite(half)) return {};
  return {mean - half, mean + half};
}

}  // namespace

double StudentT95(int degrees) {
  SWARR_CHECK(degrees >= 1, "no t distribution has ", degrees, " degrees of freedom; two seeds give 1");
  double low = 0, high = std::numbers::pi / 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (StudentShare(middle, degrees) < 0.95 ? low : high) = middle;
  }
  return std::tan(low) * std::sqrt(static_cast<double>(degrees));
}

Interval WilsonInterval(std::int64_t successes, std::int64_t trials) {
  const double z = kZ95;
  SWARR_CHECK(0 <= successes && successes <= trials, "no interval for ", successes, " successes in ", trials,
              " trials; successes must lie between 0 and the number of trials");
  if (trials == 0) return {0, 1};
  const auto k = static_cast<double>(successes), n = static_cast<double>(trials);
  const double middle = k + z * z / 2;
  const double half = z * std::sqrt(k * (n - k) / n + z * z / 4);
  // Rounding must push the ends neither out of [0, 1] nor beyond k / n.
  const double low = std::max(0.0, (middle - half) / (n + z * z)), high = std::min(1.0, (middle + half) / (n + z * z));
  return {std::min(low, k / n), std::max(high, k / n)};
}

PairedBootstrap::PairedBootstrap(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms,
                                 bool ProblemOutcome::*outcome) {
  std::vector<SeedTable> tables;
  for (const std::uint64_t seed : SeedsOf(runs)) {
    SeedTable table = TableOf(runs, arms, seed, outcome);
    if (!table.empty()) tables.push_back(std::move(table));
  }
  if (tables.empty()) return;

  const double weight = 1.0 / static_cast<double>(tables.size());
  observed_.assign(arms.size(), 0);
  for (const SeedTable& table : tables) {
    rows_ += static_cast<std::int64_t>(table.size());
    AddShares(table, 1, std::identity(), of_seed_.emplace_back(arms.size(), 0.0));
    AddShares(table, weight, std::identity(), observed_);
  }

  for (int r = 0; r < kBootstrapResamples; ++r) {
    PhiloxStream stream(StreamKey(0, Purpose::kBootstrap, static_cast<std::uint32_t>(r)));
    std::vector<double>& means = resampled_.emplace_back(arms.size(), 0.0);
    for (std::size_t slot = 0; slot < tables.size(); ++slot) {
      const SeedTable& table = tables[stream.NextBelow(static_cast<std::uint32_t>(tables.size()))];
      const auto draw = [&](std::size_t) { return stream.NextBelow(static_cast<std::uint32_t>(table.size())); };
      AddShares(table, weight, draw, means);
    }
  }
}

Estimate PairedBootstrap::Of(const Statistic& statistic) const {
  if (observed_.empty()) return {};
  std::vector<double> of_seed;
  for (const std::vector<double>& means : of_seed_) of_seed.push_back(statistic(means));
  Estimate estimate{.mean = statistic(observed_), .ci95 = OverProblems(statistic), .seeds = of_seed.size()};
  if (of_seed.size() > 1) estimate.ci95_seeds = AreEqual(of_seed) ? estimate.ci95 : StudentInterval(of_seed);
  return estimate;
}

Interval PairedBootstrap::OverProblems(const Statistic& statistic) const {
  std::vector<double> values;
  for (const std::vector<double>& means : resampled_) values.push_back(statistic(means));
  const bool agree = AreEqual(values);
  if (agree) values = WithUnseen(statistic);
  if (!std::ranges::all_of(values, [](double v) { return std::isfinite(v); })) return {};
  std::ranges::sort(values);
  if (agree) return {values.front(), values.back()};
  return {Percentile(values, 0.025), Percentile(values, 0.975)};
}

std::vector<double> PairedBootstrap::WithUnseen(const Statistic& statistic) const {
  const double share = WilsonInterval(0, rows_).high;
  std::vector<double> values;
  for (std::uint32_t row = 0; row < 1U << observed_.size(); ++row) {
    std::vector<double> means;
    for (std::size_t a = 0; a < observed_.size(); ++a) {
      means.push_back((1 - share) * observed_[a] + share * (row >> a & 1U));
    }
    values.push_back(statistic(means));
  }
  return values;
}

static std::vector<WayAgainstRl> OtherWays(const std::vector<ArmRun>& runs) {
  static const std::set<std::string> kBefore = {"swa_converted", "swa_sft", "swa_rl"};
  std::vector<WayAgainstRl> ways;
  for (const std::string& arm : ArmsOf(runs)) {
    if (std::ranges::find(runs, arm, &ArmRun::arm)->window == 0 || kBefore.contains(arm)) continue;
    const PairedBootstrap pair(runs, {"swa_rl", arm});
    ways.push_back({arm, pair.Of([](const std::vector<double>& m) { return m[0] - m[1]; })});
  }
  return ways;
}

StudySummary Summarize(const std::vector<ArmRun>& runs) {
  using Means = std::vector<double>;
  const auto gap_sft = [](const Means& m) { return m[0] - m[1]; };
  const auto gap_rl = [](const Means& m) { return std::max(m[0], m[2]) - m[3]; };
  const PairedBootstrap four(runs, {"sa_sft", "swa_sft", "sa_rl", "swa_rl"});
  const PairedBootstrap two(runs, {"swa_rl", "swa_sft_more"}), sa(runs, {"sa_rl", "sa_sft"});
  const PairedBootstrap in_reach(runs, {"swa_rl", "swa_sft"}, &ProblemOutcome::in_reach);
  const auto first_over_second = [](const Means& m) { return m[0] - m[1]; };
  const auto recovery = [&](const Means& m) { return gap_sft(m) > 0 ? 1 - gap_rl(m) / gap_sft(m) : kUndefined; };
  return {.gap_sft = four.Of(gap_sft),
          .gap_rl = four.Of(gap_rl),
          .gap_reduction = four.Of([&](const Means& m) { return gap_sft(m) - gap_rl(m); }),
          .recovery = four.Of(recovery),
          .rl_gain = four.Of([](const Means& m) { return m[3] - m[1]; }),
          .rl_over_more_sft = two.Of(first_over_second),
          .sa_change = sa.Of(first_over_second),
          .placement_change = in_reach.Of(first_over_second),
          .ways = OtherWays(runs)};
}

// The Wilson interval of the sampled accuracy over the problems of all runs.
static Interval PooledInterval(std::span<const ArmRun> runs) {
  std::int64_t correct = 0, problems = 0;
  for (const ArmRun& run : runs) {
    correct += std::ranges::count(run.outcomes, true, &ProblemOutcome::correct_sampled);
    problems += static_cast<std::int64_t>(run.outcomes.size());
  }
  return WilsonInterval(correct, problems);
}

Interval AccuracyInterval(const ArmRun& run) { return PooledInterval({&run, 1}); }

Estimate AccuracyOf(const Tally& tally) {
  if (tally.traces == 0) return {};
  return {.mean = tally.accuracy(), .ci95 = WilsonInterval(tally.right, tally.traces)};
}

std::vector<ArmMeans> MeansByArm(const std::vector<ArmRun>& runs) {
  std::vector<ArmMeans> all;
  for (const std::string& arm : ArmsOf(runs)) {
    std::vector<ArmRun> of_arm;
    std::copy_if(runs.begin(), runs.end(), std::back_inserter(of_arm), [&](const ArmRun& r) { return r.arm == arm; });
    const std::size_t count = of_arm.size();
    ArmMeans& means = all.emplace_back();
    means.arm = arm;
    const auto mean = [&](const auto& of) {
      double sum = 0;
      for (const ArmRun& run : of_arm) sum += of(run);
      return sum / static_cast<double>(count);
    };
    for (const auto& measures :
         {std::span<const ArmMeasure>(kAnswerMeasures), std::span<const ArmMeasure>(kReachMeasures)}) {
      for (const auto& [name, measure] : measures) {
        means.*measure = mean([&, measure = measure](const ArmRun& run) { return run.*measure; });
      }
    }
    for (std::size_t i = 0; i < of_arm.front().mechanism.size(); ++i) {
      means.mechanism.push_back(mean([&](const ArmRun& run) { return run.Mechanism(i); }));
    }
    for (Tally ArmMeasures::*tally : {&ArmMeasures::within, &ArmMeasures::beyond, &ArmMeasures::longer}) {
      for (const ArmRun& run : of_arm) {
        (means.*tally).traces += (run.*tally).traces;
        (means.*tally).right += (run.*tally).right;
      }
    }
    std::vector<double> accuracies;
    for (const ArmRun& run : of_arm) accuracies.push_back(run.accuracy);
    means.accuracy_ci95 = AreEqual(accuracies) ? PooledInterval(of_arm) : StudentInterval(accuracies);
  }
  return all;
}

}  // namespace swarr
