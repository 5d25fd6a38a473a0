// SPDX-License-Identifier: Apache-2.0
// What a study measured, and the two files that keep it: results.json (the numbers) and outcomes.jsonl (one row per
// arm, seed and problem, from which every accuracy, interval and mechanism number can be computed again). Shares and
// accuracies are in [0, 1], lengths and distances in tokens. NaN means "undefined" and is null in the files.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "page/training_curves.h"
#include "study/attention.h"
#include "study/looks.h"
#include "task/registry.h"

namespace swarr {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

struct Interval {
  double low = kUndefined;
  double high = kUndefined;
};

// A number that was measured under one or several seeds (study/statistics.h).
struct Estimate {
  double mean = kUndefined;
  Interval ci95{};        // over the choice of problems, and of the seeds that there are
  Interval ci95_seeds{};  // over seeds: what another seed would give; undefined for one seed, ci95 where all agree
  std::size_t seeds = 1;

  // The interval that claims rest on: over seeds where there are several.
  const Interval& Claimed() const { return seeds > 1 ? ci95_seeds : ci95; }
};

// How one arm fared on one problem.
struct ProblemOutcome {
  std::int64_t problem = 0;  // index in the evaluation set; arms are paired by it
  int steps = 0;             // n of the problem
  bool correct_sampled = false;
  bool correct_greedy = false;
  int length = 0;  // of the sampled completion
  bool truncated = false;
  // Of the sampled completion (task/traces.h); what is in reach for SA too, whose sight has no end.
  std::vector<std::int64_t> counts{};
  bool in_reach = false;
  double best_chance = 0;
  std::vector<int> runs{};
};

// Calls visit(name in the files, member) for each number of an outcome. The counts have these names, and there are as
// many.
template <class Outcome, class Visit>
void VisitOutcome(Outcome& o, const std::vector<std::string>& counts, Visit&& visit) {
  visit("problem", o.problem);
  visit("steps", o.steps);
  visit("correct_sampled", o.correct_sampled);
  visit("correct_greedy", o.correct_greedy);
  visit("length", o.length);
  visit("truncated", o.truncated);
  for (std::size_t i = 0; i < counts.size(); ++i) visit(counts[i].c_str(), o.counts.at(i));
  visit("in_reach", o.in_reach);
  visit("best_chance", o.best_chance);
  visit("runs", o.runs);
}

// Problems with from <= n <= to, both ends included.
struct StepRange {
  int from = 0;
  int to = 0;
};

struct StepsAccuracy {
  StepRange steps;
  std::int64_t problems = 0;
  double accuracy = 0;  // sampled
};

// How many of some traces have the right answer.
struct Tally {
  std::int64_t traces = 0;
  std::int64_t right = 0;

  double accuracy() const;  // undefined without traces
};

// The measures of an arm under one seed, or their means over seeds (tallies: their sums).
struct ArmMeasures {
  double accuracy = 0;  // one sample a problem at temperature 1
  double accuracy_greedy = 0;
  double mean_length = 0;
  double truncated = 0;
  std::vector<double> mechanism{};  // the task's own measures; empty without outcomes
  double in_reach = 0;              // g, the share of the sampled traces that are in reach
  // Undefined without a window, and with sinks, which neither considers (task/ceiling.h):
  double ceiling = kUndefined;      // the memoryless ceiling at the run's rate of repeating, for a task that has one
  double reach_bound = kUndefined;  // the mean of the traces' best chances

  double Mechanism(std::size_t column) const { return column < mechanism.size() ? mechanism[column] : kUndefined; }

  Tally within, beyond;  // the traces in reach, whose accuracy is the competence, and the others
  Tally longer;          // sampled answers to problems of more steps than those of training, where the study has them
};

// Whether the accuracy is above the reach bound. False where that is undefined.
bool AboveReachBound(const ArmMeasures& measures);

// The measures by their names in the files: those of the answers, then, after the task's own, those of the reach.
using ArmMeasure = std::pair<const char*, double ArmMeasures::*>;
constexpr std::array<ArmMeasure, 4> kAnswerMeasures = {{
    {"accuracy", &ArmMeasures::accuracy},
    {"accuracy_greedy", &ArmMeasures::accuracy_greedy},
    {"mean_length", &ArmMeasures::mean_length},
    {"truncated", &ArmMeasures::truncated},
}};
constexpr std::array<ArmMeasure, 3> kReachMeasures = {{
    {"ceiling", &ArmMeasures::ceiling},
    {"in_reach", &ArmMeasures::in_reach},
    {"reach_bound", &ArmMeasures::reach_bound},
}};

// A sampled completion that is kept as it is, to be shown.
struct SampledTrace {
  std::int64_t problem = 0;
  std::string prompt{}, completion{};
  bool right = false;
};

// One arm under one seed. Aggregate computes the problems and, but for ceiling, reach_bound and longer, the measures,
// from the outcomes.
struct ArmRun : ArmMeasures {
  std::string arm;
  std::uint64_t seed = 0;
  int window = 0;  // of its layers, or of those that are windowed; 0: full attention
  // What it came from: the base model of its seed, the device and the program's revision.
  std::string base_model{}, device{}, revision{};
  std::int64_t problems = 0;
  std::int64_t optimizer_steps = 0;  // of its own stage
  // Tokens of its own stage: trained on, drawn by its own policy, and drawn or scored by the model of another arm.
  std::int64_t trained_tokens = 0, sampled_tokens = 0, teacher_tokens = 0;
  std::vector<StepsAccuracy> accuracy_by_steps;
  std::vector<ProblemOutcome> outcomes;
  std::vector<TrainingCurve> training{};  // of its own stage; empty in older records
  std::vector<SampledTrace> traces{};     // study/traces.h; empty in older records
  AttendedTrace attention{};              // without layers where it is not kept
};

// An arm that has a window and is neither RL nor what it starts from: another way to do what RL does.
struct WayAgainstRl {
  std::string arm;
  Estimate rl_over;  // accuracy of SWA after RL - this one's, over the seeds and problems that both have
};

// Where arms are compared: computed once, since each takes a bootstrap (study/statistics.h).
struct StudySummary {
  Estimate gap_sft;           // SA - SWA accuracy after SFT
  Estimate gap_rl;            // the better of SA after SFT and SA after RL - SWA after RL: a gap that shrinks because
                              // SA got worse does not count
  Estimate gap_reduction;     // gap_sft - gap_rl
  Estimate recovery;          // 1 - gap_rl / gap_sft
  Estimate rl_gain;           // SWA after RL - SWA after SFT
  Estimate rl_over_more_sft;  // SWA after RL - SWA after SFT with equal extra tokens
  Estimate sa_change;         // SA after RL - SA after SFT
  Estimate placement_change;  // share of traces in reach, SWA after RL - SWA after SFT
  std::vector<WayAgainstRl> ways{};
};

// That nothing was learned from some step on (train/watch.h).
struct TrainingWarning {
  std::string arm;
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::string text{};
};

// Whether the log-probabilities of the rollouts are those of the training pass, token by token, and whether training
// went as it should.
struct StudyChecks {
  double rollout_logprob_max_abs_diff = 0;
  std::int64_t rollout_logprob_tokens = 0;
  std::vector<TrainingWarning> warnings{};
};

struct CostPoint {
  std::string arm;
  std::int64_t length = 0;    // tokens in the sequence so far
  std::int64_t kv_bytes = 0;  // cache of one sequence
  double decode_ms_per_token = 0;
  double forward_tokens_per_second = 0;  // of one pass over the whole sequence
};

// What the figure shows of the steps of RL. The run's own files keep these numbers.
struct CurvePoint {
  double step = 0;
  double reward = 0;
  double repeat_rate = 0;  // the task's first measure
};

struct LearningCurve {
  std::string arm;
  std::vector<CurvePoint> points{};
};

// The task, and the setting that reach and ceiling depend on.
struct StudyTask {
  BuiltInTask kind{};
  int layers = 0;
  int window = 0;  // of the SWA arms; counts the current token
  // What the SFT data leave possible under the window: the memoryless ceiling at their rate of repeating, or, for a
  // task without one, the reach bound of their traces.
  double data_ceiling = 0;

  const TraceRule& traces() const { return kind.reward.traces; }
  const TaskView& view() const { return kind.view; }
  StepRange sizes() const;
  // The memoryless ceiling of a policy that repeats at this rate, on problems of these sizes among all; undefined where
  // the task has none.
  double MemorylessCeiling(double rate, StepRange range) const;
};

struct StudyResults {
  std::string preset;
  std::string device{};
  std::string command_line;
  std::string source_revision;
  double wall_seconds = 0;
  std::string machine{}, kernels{}, date{};  // of the report, not of the runs
  std::vector<std::string> missing{};        // arms and seeds that are not measured yet, in words
  StudyTask task{};
  nlohmann::ordered_json settings{};  // the resolved configuration
  std::vector<ArmLook> looks{};
  std::vector<ArmRun> runs{};
  StudySummary summary{};
  StudyChecks checks{};
  std::vector<CostPoint> cost{};
  std::string cost_device{};  // what measured it: where the report is written, not where the arms ran
  std::vector<LearningCurve> curves{};
};

// The different values of a field of the runs, in the order in which they first appear; so for the arms; and the seeds.
std::vector<std::string> DistinctOf(const std::vector<ArmRun>& runs, std::string ArmRun::*field);
std::vector<std::string> ArmsOf(const std::vector<ArmRun>& runs);
std::set<std::uint64_t> SeedsOf(const std::vector<ArmRun>& runs);

// n_min .. n_max in at most four disjoint ranges of nearly equal size. Throws Error unless n_min <= n_max.
std::vector<StepRange> StepRanges(int n_min, int n_max);

// Computes the measures of `run`, except its ceiling and bound, from its outcomes. Ratios are pooled over problems; one
// without a denominator is 0. A range without problems is left out of accuracy_by_steps.
void Aggregate(ArmRun& run, const TraceRule& traces, const std::vector<StepRange>& ranges);

// What its traces leave possible: the mean of their best chances.
double ReachBoundOf(const ArmRun& run);

// results.json; docs/study.md lists the fields. settings.data_ceiling is set from task.data_ceiling, settings.reach
// from its layers and window.
nlohmann::ordered_json ToJson(const StudyResults& results);

// outcomes.jsonl.
std::string OutcomesText(const std::vector<ArmRun>& runs, const TraceRule& traces);

}  // namespace swarr
