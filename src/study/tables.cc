// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <set>

#include "base/check.h"
#include "study/report.h"
#include "study/statistics.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

std::string Exactness(const StudyChecks& checks) {
  if (checks.rollout_logprob_tokens == 0) return "not measured: no sampled token was compared";
  const std::string tokens = Concat(checks.rollout_logprob_tokens, " sampled tokens");
  if (checks.rollout_logprob_max_abs_diff == 0) return Concat("exact: difference 0 over all ", tokens);
  return Concat("NOT exact: differences up to ", std::setprecision(3), checks.rollout_logprob_max_abs_diff, " over ",
                tokens);
}

std::string OrDash(double value) { return std::isfinite(value) ? FormatNumber(value) : "-"; }

// "0.762 (622)"
std::string TallyCell(const Tally& tally) {
  return tally.traces == 0 ? "- (0)" : Concat(FormatNumber(tally.accuracy()), " (", tally.traces, ")");
}

// The cells from the share in reach on, which tell the same of an arm and of a run.
void AddReach(const ArmMeasures& m, std::vector<std::string>& row) {
  const char* above = !std::isfinite(m.reach_bound) ? "-" : AboveReachBound(m) ? "yes" : "no";
  for (const std::string& cell : {FormatNumber(m.in_reach), TallyCell(m.within), TallyCell(m.beyond),
                                  OrDash(m.reach_bound), std::string(above), OrDash(m.ceiling)}) {
    row.push_back(cell);
  }
}

}  // namespace

std::string FormatNumber(double value, int decimals) {
  if (!std::isfinite(value)) return "n/a";
  const std::string text = Concat(std::fixed, std::setprecision(decimals), value);
  const bool zero = text.find_first_not_of("-0.") == std::string::npos;
  return zero && text[0] == '-' ? text.substr(1) : text;  // no "-0.000"
}

std::string FormatEstimate(const Estimate& estimate) {
  const Interval& interval = estimate.Claimed();
  if (!std::isfinite(interval.low)) return FormatNumber(estimate.mean);
  return Concat(FormatNumber(estimate.mean), " [", FormatNumber(interval.low), ", ", FormatNumber(interval.high), "]");
}

TextTable TableOfArms(const StudyResults& results) {
  TextTable table = {{"arm", "accuracy [95% CI]", "greedy accuracy", "restatements per step", "mean length",
                      "truncated", "facts in window", "traces in reach"}};
  const std::vector<ArmMeans> arms = MeansByArm(results.runs);
  const bool longer = std::ranges::any_of(arms, [](const ArmMeans& m) { return m.longer.traces > 0; });
  if (longer) table[0].emplace_back("accuracy on longer problems");
  for (const ArmMeans& m : arms) {
    table.push_back({ArmName(results.looks, m.arm), FormatEstimate({.mean = m.accuracy, .ci95 = m.accuracy_ci95}),
                     FormatNumber(m.accuracy_greedy), FormatNumber(m.restatement_rate), FormatNumber(m.mean_length, 1),
                     FormatNumber(m.truncated), FormatNumber(m.facts_in_window), FormatNumber(m.in_reach)});
    if (longer) table.back().push_back(OrDash(m.longer.accuracy()));
  }
  return table;
}

TextTable TableOfReach(const StudyResults& results) {
  TextTable table = {{"arm", "accuracy", "in reach, g", "accuracy in reach (traces)", "accuracy out of reach (traces)",
                      "reach bound", "above it", "memoryless ceiling"}};
  for (const ArmMeans& m : MeansByArm(results.runs)) {
    AddReach(m, table.emplace_back(std::vector<std::string>{ArmName(results.looks, m.arm), FormatNumber(m.accuracy)}));
  }
  return table;
}

std::vector<WayAgainstRl> OtherWays(const std::vector<ArmRun>& runs) {
  static const std::set<std::string> kBefore = {"swa_converted", "swa_sft", "swa_rl"};
  std::vector<WayAgainstRl> ways;
  for (const std::string& arm : ArmsOf(runs)) {
    if (std::ranges::find(runs, arm, &ArmRun::arm)->window == 0 || kBefore.contains(arm)) continue;
    const PairedBootstrap pair(runs, {"swa_rl", arm});
    ways.push_back({arm, pair.Of([](const std::vector<double>& m) { return m[0] - m[1]; })});
  }
  return ways;
}

TextTable TableOfWays(const StudyResults& results) {
  TextTable table = {{"way", "accuracy [95% CI]", "RL - it [95% CI]", "in reach, g", "accuracy in reach",
                      "restatements per step", "trained tokens", "sampled", "by another's model"}};
  const std::vector<ArmMeans> means = MeansByArm(results.runs);
  const auto add = [&](const std::string& arm, const std::string& rl_over) {
    const auto m = std::ranges::find(means, arm, &ArmMeans::arm);
    if (m == means.end()) return;
    const auto mean = [&](std::int64_t ArmRun::*tokens) {
      double sum = 0, runs = 0;
      for (const ArmRun& run : results.runs) {
        if (run.arm != arm) continue;
        sum += static_cast<double>(run.*tokens);
        ++runs;
      }
      return FormatNumber(sum / runs, 0);
    };
    table.push_back({ArmName(results.looks, arm), FormatEstimate({.mean = m->accuracy, .ci95 = m->accuracy_ci95}),
                     rl_over, FormatNumber(m->in_reach), OrDash(m->within.accuracy()),
                     FormatNumber(m->restatement_rate), mean(&ArmRun::trained_tokens), mean(&ArmRun::sampled_tokens),
                     mean(&ArmRun::teacher_tokens)});
  };
  const std::vector<WayAgainstRl> others = OtherWays(results.runs);
  for (const std::string& arm : ArmsOf(results.runs)) {
    const auto other = std::ranges::find(others, arm, &WayAgainstRl::arm);
    if (other != others.end()) add(arm, FormatEstimate(other->rl_over));
    if (arm == "swa_sft" || arm == "swa_rl") add(arm, "-");
  }
  return table;
}

TextTable TableOfRuns(const StudyResults& results) {
  TextTable table = {{"arm", "seed", "problems", "accuracy [95% CI]", "greedy", "restatements per step", "mean length",
                      "truncated", "distance", "facts in window", "in reach, g", "accuracy in reach (traces)",
                      "accuracy out of reach (traces)", "reach bound", "above it", "memoryless ceiling"}};
  for (const ArmRun& r : results.runs) {
    AddReach(r, table.emplace_back(std::vector<std::string>{
                    ArmName(results.looks, r.arm), std::to_string(r.seed), std::to_string(r.problems),
                    FormatEstimate({.mean = r.accuracy, .ci95 = AccuracyInterval(r)}), FormatNumber(r.accuracy_greedy),
                    FormatNumber(r.restatement_rate), FormatNumber(r.mean_length, 1), FormatNumber(r.truncated),
                    FormatNumber(r.dependency_distance_mean, 1), FormatNumber(r.facts_in_window)}));
  }
  return table;
}

std::string ReachNote(const StudyTask& task) {
  return Concat("A trace is in reach if every fact that it uses was last stated at most ",
                ReachOf(task.layers, task.window), " tokens before (", task.layers,
                " layers x (W - 1)); g is the share of such traces. The reach bound, g + (1 - g)/13, holds for every "
                "policy under the window, but for what values in view give away. The memoryless ceiling is that bound "
                "for a policy that restates at random, at the arm's rate. SA is bound by neither; its g is what "
                "the window would leave of its traces.");
}

std::string Headline(const StudyResults& results) {
  const StudyTask& task = results.task;
  const std::size_t seeds = SeedsOf(results.runs).size();
  std::int64_t problems = 0;
  for (const ArmRun& run : results.runs) problems = std::max(problems, run.problems);
  return Concat("Chain task, preset ", results.preset, ": ", seeds, seeds == 1 ? " seed, " : " seeds, ", problems,
                " problems of ", task.n_min, " to ", task.n_max, " steps, ", task.layers, " layers, window ",
                task.window, ", ", results.device, ", ", FormatNumber(results.wall_seconds, 0), " s");
}

std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results) {
  const StudySummary& s = results.summary;
  return {{"memoryless ceiling of the data", Concat(FormatNumber(results.task.data_ceiling), " (restatement rate ",
                                                    FormatNumber(results.task.data_restatement_rate, 2), ")")},
          {"gap after SFT, SA - SWA", FormatEstimate(s.gap_sft)},
          {"gap after RL, SA's better - SWA", FormatEstimate(s.gap_rl)},
          {"gap reduction", FormatEstimate(s.gap_reduction)},
          {"recovery, 1 - gap RL / gap SFT", FormatEstimate(s.recovery)},
          {"RL - SFT, SWA", FormatEstimate(s.rl_gain)},
          {"RL - equal extra SFT, SWA", FormatEstimate(s.rl_over_more_sft)},
          {"rollout against training", Exactness(results.checks)}};
}

}  // namespace swarr
