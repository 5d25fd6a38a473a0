// SPDX-License-Identifier: Apache-2.0
#include "study/statistics.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tensor/check.h"
#include "tensor/philox.h"

namespace swarr {
namespace {

// The outcomes of one seed on the problems that all arms share: correct[problem * arms + arm] is 0 or 1.
struct SeedTable {
  std::size_t problems = 0;
  std::vector<std::uint8_t> correct;
};

const ArmRun* FindRun(const std::vector<ArmRun>& runs, const std::string& arm, std::uint64_t seed) {
  for (const ArmRun& run : runs) {
    if (run.arm == arm && run.seed == seed) return &run;
  }
  return nullptr;
}

SeedTable TableOf(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms, std::uint64_t seed) {
  // Keyed by problem, so that the order of rows does not matter.
  std::map<std::int64_t, std::vector<std::uint8_t>> by_problem;
  for (std::size_t a = 0; a < arms.size(); ++a) {
    const ArmRun* run = FindRun(runs, arms[a], seed);
    if (run == nullptr) return {};
    for (const ProblemOutcome& o : run->outcomes) {
      std::vector<std::uint8_t>& row = by_problem[o.problem];
      SWARR_CHECK(row.size() <= a, "arm ", arms[a], " has two outcomes for problem ", o.problem, " of seed ", seed,
                  "; outcomes must have one row per arm, seed and problem");
      if (row.size() == a) row.push_back(o.correct_sampled ? 1 : 0);
    }
  }
  SeedTable table;
  for (const auto& [problem, row] : by_problem) {
    if (row.size() != arms.size()) continue;
    table.correct.insert(table.correct.end(), row.begin(), row.end());
    ++table.problems;
  }
  return table;
}

// Adds to `means` the arms' accuracies on the problems that `next_problem` yields, one per problem of the table.
template <class NextProblem>
void AddAccuracies(const SeedTable& table, double weight, NextProblem&& next_problem, std::vector<double>& means) {
  const std::size_t arms = means.size();
  std::vector<std::int64_t> correct(arms, 0);
  for (std::size_t i = 0; i < table.problems; ++i) {
    const std::size_t problem = next_problem(i);
    for (std::size_t a = 0; a < arms; ++a) correct[a] += table.correct[problem * arms + a];
  }
  for (std::size_t a = 0; a < arms; ++a) {
    means[a] += weight * static_cast<double>(correct[a]) / static_cast<double>(table.problems);
  }
}

double Percentile(const std::vector<double>& sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Interval WilsonInterval(std::int64_t successes, std::int64_t trials, double z) {
  SWARR_CHECK(0 <= successes && successes <= trials, "no interval for ", successes, " successes in ", trials,
              " trials; successes must lie between 0 and the number of trials");
  if (trials == 0) return {0, 1};
  const auto k = static_cast<double>(successes), n = static_cast<double>(trials);
  const double middle = k + z * z / 2;
  const double half = z * std::sqrt(k * (n - k) / n + z * z / 4);
  // Rounding must not push the ends out of [0, 1].
  return {std::max(0.0, (middle - half) / (n + z * z)), std::min(1.0, (middle + half) / (n + z * z))};
}

PairedBootstrap::PairedBootstrap(const std::vector<ArmRun>& runs, const std::vector<std::string>& arms, int resamples) {
  std::set<std::uint64_t> seeds;
  for (const ArmRun& run : runs) seeds.insert(run.seed);
  std::vector<SeedTable> tables;
  for (const std::uint64_t seed : seeds) {
    SeedTable table = TableOf(runs, arms, seed);
    if (table.problems > 0) tables.push_back(std::move(table));
  }
  if (tables.empty()) return;

  const double weight = 1.0 / static_cast<double>(tables.size());
  observed_.assign(arms.size(), 0);
  for (const SeedTable& table : tables)
    AddAccuracies(
        table, weight, [](std::size_t i) { return i; }, observed_);

  for (int r = 0; r < resamples; ++r) {
    PhiloxStream stream(StreamKey(0, Purpose::kBootstrap, static_cast<std::uint32_t>(r)));
    std::vector<double>& means = resampled_.emplace_back(arms.size(), 0.0);
    for (std::size_t slot = 0; slot < tables.size(); ++slot) {
      const SeedTable& table = tables[stream.NextBelow(static_cast<std::uint32_t>(tables.size()))];
      const auto problems = static_cast<std::uint32_t>(table.problems);
      AddAccuracies(
          table, weight, [&](std::size_t) { return std::size_t{stream.NextBelow(problems)}; }, means);
    }
  }
}

Estimate PairedBootstrap::Of(const Statistic& statistic) const {
  if (observed_.empty()) return {};
  Estimate estimate;
  estimate.mean = statistic(observed_);
  std::vector<double> values;
  for (const std::vector<double>& means : resampled_) values.push_back(statistic(means));
  const bool defined = std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
  if (!defined || values.empty()) return estimate;
  std::sort(values.begin(), values.end());
  estimate.ci95 = {Percentile(values, 0.025), Percentile(values, 0.975)};
  return estimate;
}

StudySummary Summarize(const std::vector<ArmRun>& runs) {
  using Means = std::vector<double>;
  const auto gap_sft = [](const Means& m) { return m[0] - m[1]; };
  const auto gap_rl = [](const Means& m) { return m[2] - m[3]; };
  const PairedBootstrap four(runs, {"sa_sft", "swa_sft", "sa_rl", "swa_rl"});
  const PairedBootstrap two(runs, {"swa_rl", "swa_sft_more"});
  StudySummary summary;
  summary.gap_sft = four.Of(gap_sft);
  summary.gap_rl = four.Of(gap_rl);
  summary.gap_reduction = four.Of([&](const Means& m) { return gap_sft(m) - gap_rl(m); });
  summary.recovery = four.Of([&](const Means& m) { return gap_sft(m) > 0 ? 1 - gap_rl(m) / gap_sft(m) : kUndefined; });
  summary.rl_over_more_sft = two.Of([](const Means& m) { return m[0] - m[1]; });
  return summary;
}

Interval AccuracyInterval(const ArmRun& run) {
  const auto correct = std::count_if(run.outcomes.begin(), run.outcomes.end(),
                                     [](const ProblemOutcome& o) { return o.correct_sampled; });
  return WilsonInterval(correct, static_cast<std::int64_t>(run.outcomes.size()));
}

std::vector<ArmMeans> MeansByArm(const std::vector<ArmRun>& runs) {
  std::vector<ArmMeans> all;
  for (const ArmRun& first : runs) {
    if (std::any_of(all.begin(), all.end(), [&](const ArmMeans& m) { return m.arm == first.arm; })) continue;
    std::vector<const ArmRun*> of_arm;
    for (const ArmRun& run : runs) {
      if (run.arm == first.arm) of_arm.push_back(&run);
    }
    const auto mean = [&](double ArmRun::*field) {
      double sum = 0;
      for (const ArmRun* run : of_arm) sum += run->*field;
      return sum / static_cast<double>(of_arm.size());
    };
    ArmMeans m;
    m.arm = first.arm;
    m.seeds = static_cast<std::int64_t>(of_arm.size());
    m.accuracy.mean = mean(&ArmRun::accuracy);
    m.accuracy.ci95 = of_arm.size() == 1
                          ? AccuracyInterval(first)
                          : PairedBootstrap(runs, {first.arm}).Of([](const auto& means) { return means[0]; }).ci95;
    m.accuracy_greedy = mean(&ArmRun::accuracy_greedy);
    m.restatement_rate = mean(&ArmRun::restatement_rate);
    m.mean_length = mean(&ArmRun::mean_length);
    m.truncated = mean(&ArmRun::truncated);
    m.facts_in_window = mean(&ArmRun::facts_in_window);
    m.dependency_distance_mean = mean(&ArmRun::dependency_distance_mean);
    double ceilings = 0;
    for (const ArmRun* run : of_arm) ceilings += run->ceiling.value_or(kUndefined);
    if (!std::isnan(ceilings)) m.ceiling = ceilings / static_cast<double>(of_arm.size());
    all.push_back(std::move(m));
  }
  return all;
}

}  // namespace swarr
