// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>

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

std::string CeilingName(const StudyTask& task) { return task.view().memoryless ? "memoryless ceiling" : "reach bound"; }

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
  const std::vector<TraceMeasure>& measures = results.task.traces().measures;
  TextTable table = {{"arm", "accuracy [95% CI]", "greedy accuracy", measures[kRepeatRate].head, "mean length",
                      "truncated", measures[kInWindow].head, "traces in reach"}};
  const std::vector<ArmMeans> arms = MeansByArm(results.runs);
  const bool longer = std::ranges::any_of(arms, [](const ArmMeans& m) { return m.longer.traces > 0; });
  if (longer) table[0].emplace_back("accuracy on longer problems");
  for (const ArmMeans& m : arms) {
    table.push_back({ArmName(results.looks, m.arm), FormatEstimate({.mean = m.accuracy, .ci95 = m.accuracy_ci95}),
                     FormatNumber(m.accuracy_greedy), FormatNumber(m.Mechanism(kRepeatRate)),
                     FormatNumber(m.mean_length, 1), FormatNumber(m.truncated), FormatNumber(m.Mechanism(kInWindow)),
                     FormatNumber(m.in_reach)});
    if (longer) table.back().push_back(OrDash(m.longer.accuracy()));
  }
  return table;
}

TextTable TableOfTraces(const StudyResults& results) {
  TextTable table = {{"arm", "mean length"}};
  const std::vector<TraceMeasure>& measures = results.task.traces().measures;
  for (const TraceMeasure& measure : measures) table[0].push_back(measure.head);
  for (const ArmMeans& m : MeansByArm(results.runs)) {
    table.push_back({ArmName(results.looks, m.arm), FormatNumber(m.mean_length, 1)});
    for (std::size_t i = 0; i < measures.size(); ++i) {
      table.back().push_back(FormatNumber(m.Mechanism(i), measures[i].decimals));
    }
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

TextTable TableOfWays(const StudyResults& results) {
  TextTable table = {{"way", "accuracy [95% CI]", "RL - it [95% CI]", "in reach, g", "accuracy in reach",
                      results.task.traces().measures[kRepeatRate].head, "trained tokens", "sampled",
                      "by another's model"}};
  std::vector<ArmMeans> means = MeansByArm(results.runs);
  std::ranges::stable_sort(means, std::greater(), &ArmMeans::accuracy);
  for (const ArmMeans& m : means) {
    const auto other = std::ranges::find(results.summary.ways, m.arm, &WayAgainstRl::arm);
    const bool compared = other != results.summary.ways.end();
    if (!compared && m.arm != "swa_sft" && m.arm != "swa_rl") continue;
    const auto mean = [&](std::int64_t ArmRun::*tokens) {
      double sum = 0, runs = 0;
      for (const ArmRun& run : results.runs) {
        if (run.arm != m.arm) continue;
        sum += static_cast<double>(run.*tokens);
        ++runs;
      }
      return FormatNumber(sum / runs, 0);
    };
    table.push_back({ArmName(results.looks, m.arm), FormatEstimate({.mean = m.accuracy, .ci95 = m.accuracy_ci95}),
                     compared ? FormatEstimate(other->rl_over) : "-", FormatNumber(m.in_reach),
                     OrDash(m.within.accuracy()), FormatNumber(m.Mechanism(kRepeatRate)), mean(&ArmRun::trained_tokens),
                     mean(&ArmRun::sampled_tokens), mean(&ArmRun::teacher_tokens)});
  }
  return table;
}

TextTable TableOfRuns(const StudyResults& results) {
  TextTable table = {{"arm", "seed", "problems", "accuracy [95% CI]", "greedy", "mean length", "truncated"}};
  const std::vector<TraceMeasure>& measures = results.task.traces().measures;
  for (const TraceMeasure& measure : measures) table[0].push_back(measure.head);
  for (const char* head : {"in reach, g", "accuracy in reach (traces)", "accuracy out of reach (traces)", "reach bound",
                           "above it", "memoryless ceiling"}) {
    table[0].emplace_back(head);
  }
  for (const ArmRun& r : results.runs) {
    std::vector<std::string>& row = table.emplace_back(std::vector<std::string>{
        ArmName(results.looks, r.arm), std::to_string(r.seed), std::to_string(r.problems),
        FormatEstimate({.mean = r.accuracy, .ci95 = AccuracyInterval(r)}), FormatNumber(r.accuracy_greedy),
        FormatNumber(r.mean_length, 1), FormatNumber(r.truncated)});
    for (std::size_t i = 0; i < measures.size(); ++i) {
      row.push_back(FormatNumber(r.Mechanism(i), measures[i].decimals));
    }
    AddReach(r, row);
  }
  return table;
}

std::string BoundFormula(const StudyTask& task) {
  const double guess = task.traces().guess, inverse = 1 / guess;
  const bool whole = std::abs(inverse - std::round(inverse)) < 1e-9;
  return Concat("g + (1 - g)", whole ? Concat('/', std::round(inverse)) : Concat(" x ", guess));
}

std::string ReachNote(const StudyTask& task) {
  const bool chain = task.view().memoryless != nullptr;
  return Concat("A trace is in reach if ",
                chain ? "n, wherever it goes on, stops or restates it," : "everything that it uses",
                " was last stated at most ", ReachOf(task.layers, task.window), " tokens before (", task.layers,
                " layers x (W - 1)); g is the share of such traces. ",
                chain ? "The values in view tell a and b. The reach bound takes every trace in reach for right, and of "
                        "the others the share that the best guess when to stop gets right: a twelfth, more where fewer "
                        "steps are left, so it is at least "
                      : "The reach bound is ",
                BoundFormula(task), ", and holds for every policy under the window",
                chain ? " that does not tell n in another form. The memoryless ceiling is that bound for a policy that "
                        "restates at random, at the arm's rate. "
                      : ", but for what can be inferred. ",
                "SA is bound by nothing of this; its g is what the window would leave of its traces.");
}

std::string Headline(const StudyResults& results) {
  const StudyTask& task = results.task;
  const std::size_t seeds = SeedsOf(results.runs).size();
  std::int64_t problems = 0;
  for (const ArmRun& run : results.runs) problems = std::max(problems, run.problems);
  const auto [from, to] = task.sizes();
  return Concat(task.view().title, ", preset ", results.preset, ": ", seeds, seeds == 1 ? " seed, " : " seeds, ",
                problems, " problems of ", from, " to ", to, ' ', task.view().step, "s, ", task.layers,
                " layers, window ", task.window, ", ", results.device, ", ", FormatNumber(results.wall_seconds, 0),
                " s");
}

std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results) {
  const StudySummary& s = results.summary;
  const StudyTask& task = results.task;
  return {{Concat(CeilingName(task), " of the data"),
           Concat(FormatNumber(task.data_ceiling), " (", task.traces().measures[kRepeatRate].head, ' ',
                  FormatNumber(task.view().repeat_rate(), 2), ")")},
          {"gap after SFT, SA - SWA", FormatEstimate(s.gap_sft)},
          {"gap after RL, SA's better - SWA", FormatEstimate(s.gap_rl)},
          {"gap reduction", FormatEstimate(s.gap_reduction)},
          {"recovery, 1 - gap RL / gap SFT", FormatEstimate(s.recovery)},
          {"RL - SFT, SWA", FormatEstimate(s.rl_gain)},
          {"RL - equal extra SFT, SWA", FormatEstimate(s.rl_over_more_sft)},
          {"rollout against training", Exactness(results.checks)}};
}

}  // namespace swarr
