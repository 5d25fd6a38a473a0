// SPDX-License-Identifier: Apache-2.0
#include "study/findings.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "study/statistics.h"
#include "tensor/check.h"

namespace swarr {
namespace {

constexpr const char* kNone = "-";

std::string FormatInterval(const Interval& interval) {
  return Concat("[", FormatNumber(interval.low), ", ", FormatNumber(interval.high), "]");
}

std::string Signed(double value) { return (value >= 0 ? "+" : "") + FormatNumber(value); }

std::string Percent(double share) { return FormatNumber(100 * share, 0) + "%"; }

std::size_t SeedCount(const StudyResults& results) {
  std::set<std::uint64_t> seeds;
  for (const ArmRun& run : results.runs) seeds.insert(run.seed);
  return seeds.size();
}

std::string Plural(std::size_t count, const std::string& noun) {
  return Concat(count, " ", noun, count == 1 ? "" : "s");
}

bool Above(const Estimate& e) { return e.ci95.low > 0; }
bool Below(const Estimate& e) { return e.ci95.high < 0; }

// The arms by name; an arm that was not run has no sentence.
class Arms {
 public:
  explicit Arms(const StudyResults& results) : means_(MeansByArm(results.runs)) {}
  const ArmMeans* Find(const std::string& arm) const {
    for (const ArmMeans& m : means_) {
      if (m.arm == arm) return &m;
    }
    return nullptr;
  }

 private:
  std::vector<ArmMeans> means_;
};

// "SWA, RL" as part of a sentence: "SWA after RL".
std::string Phrase(const ArmMeans& m) {
  std::string name = ArmName(m.arm);
  for (const std::string_view stage : {"SFT", "RL"}) {
    const std::size_t comma = name.find(Concat(", ", stage));
    if (comma != std::string::npos) name.replace(comma, 2, " after ");
  }
  return name;
}

std::string Accuracy(const ArmMeans& m) { return FormatEstimate(m.accuracy); }

void SayConversion(const StudyResults& results, const Arms& arms, std::vector<std::string>& out) {
  const ArmMeans* converted = arms.Find("swa_converted");
  const ArmMeans* reference = arms.Find("sa_base") ? arms.Find("sa_base") : arms.Find("sa_sft");
  if (!converted || !reference) return;
  const double lost = reference->accuracy.mean - converted->accuracy.mean;
  const std::string effect =
      lost > 0 ? Concat("conversion loses ", Percent(lost / reference->accuracy.mean), " of the accuracy")
               : std::string("conversion loses nothing here");
  out.push_back(Concat("Converted to a window of ", results.task.window, " tokens and not trained, the model answers ",
                       Percent(converted->accuracy.mean), " of the problems; ", Phrase(*reference), " answers ",
                       Percent(reference->accuracy.mean), ": ", effect, "."));
}

void SaySft(const StudyResults& results, const Arms& arms, std::vector<std::string>& out) {
  const ArmMeans* swa = arms.Find("swa_sft");
  const Estimate& gap = results.summary.gap_sft;
  if (!swa || !arms.Find("sa_sft") || !std::isfinite(gap.mean)) return;
  const std::string verdict = Above(gap)   ? Concat("SWA is below SA by ", FormatEstimate(gap), ".")
                              : Below(gap) ? Concat("SWA is above SA by ", FormatNumber(-gap.mean), ".")
                                           : Concat("no clear gap to SA is left (", FormatEstimate(gap), ").");
  out.push_back(Concat("After SFT SWA reaches ", Accuracy(*swa), "; ", verdict));
}

void SayCeiling(const StudyResults& results, const Arms& arms, std::vector<std::string>& out) {
  const ArmMeans* best = arms.Find("swa_sft_more") ? arms.Find("swa_sft_more") : arms.Find("swa_sft");
  if (!best) return;
  const double ceiling = results.task.data_ceiling;
  const Interval& ci = best->accuracy.ci95;
  const std::string place = ci.low > ceiling    ? Concat("above it by ", FormatNumber(best->accuracy.mean - ceiling),
                                                         " (values in view can give away facts that are out of sight)")
                            : ci.high < ceiling ? Concat("below it by ", FormatNumber(ceiling - best->accuracy.mean))
                                                : std::string("not clearly above or below it");
  out.push_back(Concat("The ceiling of the SFT data, ", FormatNumber(ceiling), ", was computed beforehand. ",
                       Phrase(*best), " ends at ", Accuracy(*best), ", ", place, "."));
}

void SayRl(const StudyResults& results, const Arms& arms, std::vector<std::string>& out) {
  const ArmMeans* rl = arms.Find("swa_rl");
  if (!rl) return;
  const Estimate& over = results.summary.rl_over_more_sft;
  std::string text = Concat("RL takes SWA to ", Accuracy(*rl));
  if (std::isfinite(over.mean)) {
    text += Concat(", ", Signed(over.mean), " ", FormatInterval(over.ci95), " against SFT with equal extra tokens: ",
                   Above(over)   ? "RL did more than more training."
                   : Below(over) ? "RL did worse than more SFT."
                                 : "no clear difference.");
  } else {
    text += ".";
  }
  const double over_ceiling = rl->accuracy.mean - results.task.data_ceiling;
  text += Concat(" That is ", FormatNumber(std::abs(over_ceiling)), over_ceiling >= 0 ? " above" : " below",
                 " the ceiling of the SFT data");
  if (rl->ceiling) text += Concat("; at its own restatement rate the ceiling is ", FormatNumber(*rl->ceiling));
  out.push_back(text + ".");
}

// A gap also shrinks when SA gets worse, which is no recovery.
void SaySaChange(const StudyResults& results, std::vector<std::string>& out) {
  const PairedBootstrap sa(results.runs, {"sa_rl", "sa_sft"});
  const Estimate change = sa.Of([](const std::vector<double>& m) { return m[0] - m[1]; });
  if (!std::isfinite(change.mean)) return;
  const std::string size = Concat(Signed(change.mean), " ", FormatInterval(change.ci95));
  out.push_back(Below(change)   ? Concat("RL made SA worse (", size, "): as much of a shrinking gap is SA's loss.")
                : Above(change) ? Concat("RL makes SA better as well (", size, ").")
                                : Concat("RL leaves SA where it was (", size, ")."));
}

void SayRecovery(const StudyResults& results, std::vector<std::string>& out) {
  const StudySummary& s = results.summary;
  if (!std::isfinite(s.gap_rl.mean)) return;
  const std::string gaps = Concat("The gap to SA goes from ", FormatNumber(s.gap_sft.mean), " after SFT to ",
                                  FormatNumber(s.gap_rl.mean), " after RL");
  if (!Above(s.gap_sft)) {
    out.push_back(gaps + ". SFT left no clear gap, so there is nothing for RL to recover in this setting.");
  } else if (Above(s.gap_reduction)) {
    const double share = s.recovery.mean;
    const char* amount = share >= 1     ? "all"
                         : share >= 0.9 ? "nearly all"
                         : share >= 0.5 ? "most"
                                        : "part, less than half,";
    out.push_back(Concat(gaps, ": RL recovered ", amount, " of it, ", FormatEstimate(s.recovery), "."));
  } else if (Below(s.gap_reduction)) {
    out.push_back(gaps + ": RL did not recover accuracy, it widened the gap.");
  } else {
    out.push_back(
        Concat(gaps, ": RL did not clearly recover any of it (reduction ", FormatEstimate(s.gap_reduction), ")."));
  }
}

// A change of less than a tenth is called none: it is within what a few sampled traces move it by.
std::string RateChange(const std::string& name, double before, double after) {
  const char* verb = after > 1.1 * before ? "more" : after < 0.9 * before ? "less" : "as often as before";
  const bool changed = after > 1.1 * before || after < 0.9 * before;
  const std::string times = changed && before > 0 ? Concat(", ", FormatNumber(after / before, 2), " times") : "";
  return Concat("the ", name, " policy restates ", verb, " (", FormatNumber(before, 2), " to ", FormatNumber(after, 2),
                " per step", times, ")");
}

void SayMechanism(const Arms& arms, std::vector<std::string>& out) {
  std::vector<std::string> changes;
  for (const std::string name : {"SWA", "SA"}) {
    const std::string id = name == "SWA" ? "swa" : "sa";
    const ArmMeans* sft = arms.Find(id + "_sft");
    const ArmMeans* rl = arms.Find(id + "_rl");
    if (sft && rl) changes.push_back(RateChange(name, sft->restatement_rate, rl->restatement_rate));
  }
  if (changes.empty()) return;
  std::string text = "By RL " + changes[0];
  for (std::size_t i = 1; i < changes.size(); ++i) text += ", " + changes[i];
  out.push_back(text + ".");
  const ArmMeans* sft = arms.Find("swa_sft");
  const ArmMeans* rl = arms.Find("swa_rl");
  if (!sft || !rl) return;
  out.push_back(Concat("Under SWA the share of needed facts inside the window goes from ",
                       FormatNumber(sft->facts_in_window), " to ", FormatNumber(rl->facts_in_window),
                       ", the distance to a needed fact from ", FormatNumber(sft->dependency_distance_mean, 1), " to ",
                       FormatNumber(rl->dependency_distance_mean, 1), " tokens, the length of an answer from ",
                       FormatNumber(sft->mean_length, 1), " to ", FormatNumber(rl->mean_length, 1), "."));
}

void SaySaturation(const Arms& arms, std::vector<std::string>& out) {
  for (const char* arm : {"sa_sft", "sa_rl"}) {
    const ArmMeans* sa = arms.Find(arm);
    if (!sa || sa->accuracy.mean < kSaturated) continue;
    out.push_back(Concat("SA is at its ceiling here (", Phrase(*sa), ": ", FormatNumber(sa->accuracy.mean),
                         "): it has no room to gain, so part of a shrinking gap may be due to that."));
    return;
  }
}

std::string Exactness(const StudyChecks& checks) {
  if (checks.rollout_logprob_tokens == 0) return "not measured: no sampled token was compared";
  const std::string tokens = Concat(checks.rollout_logprob_tokens, " sampled tokens");
  if (checks.rollout_logprob_max_abs_diff == 0) return Concat("exact: difference 0 over all ", tokens);
  char difference[32];
  std::snprintf(difference, sizeof difference, "%.3g", checks.rollout_logprob_max_abs_diff);
  return Concat("NOT exact: differences up to ", difference, " over ", tokens);
}

}  // namespace

std::string FormatNumber(double value, int decimals) {
  if (!std::isfinite(value)) return "n/a";
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*f", decimals, value);
  // No "-0.000".
  const bool zero = std::string_view(buffer).find_first_not_of("-0.") == std::string_view::npos;
  return zero && buffer[0] == '-' ? buffer + 1 : buffer;
}

std::string FormatEstimate(const Estimate& estimate) {
  const std::string mean = FormatNumber(estimate.mean);
  return std::isfinite(estimate.ci95.low) ? mean + " " + FormatInterval(estimate.ci95) : mean;
}

FindingsTable TableOfArms(const StudyResults& results) {
  FindingsTable table;
  table.header = {"arm",         "accuracy [95% CI]", "greedy accuracy", "restatements per step",
                  "mean length", "truncated",         "facts in window", "ceiling"};
  for (const ArmMeans& m : MeansByArm(results.runs)) {
    table.rows.push_back({ArmName(m.arm), Accuracy(m), FormatNumber(m.accuracy_greedy),
                          FormatNumber(m.restatement_rate), FormatNumber(m.mean_length, 1), FormatNumber(m.truncated),
                          FormatNumber(m.facts_in_window), m.ceiling ? FormatNumber(*m.ceiling) : kNone});
  }
  return table;
}

FindingsTable TableOfRuns(const StudyResults& results) {
  FindingsTable table;
  table.header = {"arm",         "seed",      "problems", "accuracy [95% CI]", "greedy", "restatements per step",
                  "mean length", "truncated", "distance", "facts in window",   "ceiling"};
  for (const ArmRun& r : results.runs) {
    table.rows.push_back({ArmName(r.arm), std::to_string(r.seed), std::to_string(r.problems),
                          FormatEstimate({r.accuracy, AccuracyInterval(r)}), FormatNumber(r.accuracy_greedy),
                          FormatNumber(r.restatement_rate), FormatNumber(r.mean_length, 1), FormatNumber(r.truncated),
                          FormatNumber(r.dependency_distance_mean, 1), FormatNumber(r.facts_in_window),
                          r.ceiling ? FormatNumber(*r.ceiling) : kNone});
  }
  return table;
}

std::string Headline(const StudyResults& results) {
  const StudyTask& task = results.task;
  std::int64_t problems = 0;
  for (const ArmRun& run : results.runs) problems = std::max(problems, run.problems);
  return Concat("Chain task, preset ", results.preset, ": ", Plural(SeedCount(results), "seed"), ", ", problems,
                " problems of ", task.n_min, " to ", task.n_max, " steps, ", task.layers, " layers, window ",
                task.window, ", ", results.device, ", ", FormatNumber(results.wall_seconds, 0), " s");
}

std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results) {
  const StudySummary& s = results.summary;
  return {{"ceiling of the SFT data", Concat(FormatNumber(results.task.data_ceiling), " (restatement rate ",
                                             FormatNumber(results.task.data_restatement_rate, 2), ")")},
          {"gap after SFT, SA - SWA", FormatEstimate(s.gap_sft)},
          {"gap after RL, SA - SWA", FormatEstimate(s.gap_rl)},
          {"gap reduction", FormatEstimate(s.gap_reduction)},
          {"recovery, 1 - gap RL / gap SFT", FormatEstimate(s.recovery)},
          {"RL - equal extra SFT, SWA", FormatEstimate(s.rl_over_more_sft)},
          {"rollout against training", Exactness(results.checks)}};
}

std::vector<std::string> Findings(const StudyResults& results) {
  const Arms arms(results);
  std::vector<std::string> out;
  SayConversion(results, arms, out);
  SaySft(results, arms, out);
  SayCeiling(results, arms, out);
  SayRl(results, arms, out);
  SaySaChange(results, out);
  SayRecovery(results, out);
  SayMechanism(arms, out);
  SaySaturation(arms, out);
  if (results.checks.nonfinite_steps > 0) {
    out.push_back(Concat(results.checks.nonfinite_steps,
                         " training steps had a loss that is not finite: do not trust this run."));
  }
  const std::size_t seeds = SeedCount(results);
  out.push_back(seeds == 1
                    ? "One seed: the intervals cover the choice of problems, not what another training run would give."
                    : Concat("Intervals are over ", seeds, " seeds and their problems, means over seeds."));
  return out;
}

}  // namespace swarr
