// SPDX-License-Identifier: Apache-2.0
#include "study/results.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

using Json = nlohmann::ordered_json;

double Share(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

// nlohmann::json finds these by their name, for vectors too. In an unnamed namespace it would not.
static void to_json(Json& json, const Estimate& e) {
  json = {{"mean", Number(e.mean)},
          {"ci95", {Number(e.ci95.low), Number(e.ci95.high)}},
          {"ci95_seeds", {Number(e.ci95_seeds.low), Number(e.ci95_seeds.high)}}};
}

static void to_json(Json& json, const StepsAccuracy& s) {
  json = {{"from", s.steps.from}, {"to", s.steps.to}, {"problems", s.problems}, {"accuracy", Number(s.accuracy)}};
}

static Json JsonOf(const ArmRun& run, const TraceRule& traces) {
  Json json = {
      {"arm", run.arm},       {"seed", run.seed},         {"window", run.window},    {"base_model", run.base_model},
      {"device", run.device}, {"revision", run.revision}, {"problems", run.problems}};
  for (const auto& [name, measure] : kAnswerMeasures) json[name] = Number(run.*measure);
  for (std::size_t i = 0; i < traces.measures.size(); ++i) json[traces.measures[i].name] = Number(run.Mechanism(i));
  for (const auto& [name, measure] : kReachMeasures) json[name] = Number(run.*measure);
  json["above_reach_bound"] = std::isfinite(run.reach_bound) ? Json(AboveReachBound(run)) : Json(nullptr);
  json["traces_in_reach"] = run.within.traces;
  json["accuracy_in_reach"] = Number(run.within.accuracy());
  json["traces_out_of_reach"] = run.beyond.traces;
  json["accuracy_out_of_reach"] = Number(run.beyond.accuracy());
  json["longer_problems"] = run.longer.traces;
  json["accuracy_longer"] = Number(run.longer.accuracy());
  json["optimizer_steps"] = run.optimizer_steps;
  json["trained_tokens"] = run.trained_tokens;
  json["sampled_tokens"] = run.sampled_tokens;
  json["teacher_tokens"] = run.teacher_tokens;
  json["accuracy_by_steps"] = run.accuracy_by_steps;
  return json;
}

static void to_json(Json& json, const TrainingWarning& w) {
  json = {{"arm", w.arm}, {"seed", w.seed}, {"step", w.step}, {"text", w.text}};
}

static void to_json(Json& json, const CostPoint& c) {
  json = {{"arm", c.arm},
          {"length", c.length},
          {"kv_bytes", c.kv_bytes},
          {"decode_ms_per_token", Number(c.decode_ms_per_token)},
          {"forward_tokens_per_second", Number(c.forward_tokens_per_second)}};
}

double Tally::accuracy() const { return traces == 0 ? kUndefined : Share(right, traces); }

StepRange StudyTask::sizes() const {
  const auto [from, to] = view().sizes();
  return {from, to};
}

double StudyTask::MemorylessCeiling(double rate, StepRange range) const {
  if (!view().memoryless) return kUndefined;
  const auto [from, to] = view().sizes();
  const std::vector<double> by_steps = view().memoryless(layers, window, rate, from, to);
  const auto first = by_steps.begin() + (range.from - from), end = by_steps.begin() + (range.to + 1 - from);
  return std::accumulate(first, end, 0.0) / static_cast<double>(end - first);
}

double ReachBoundOf(const ArmRun& run) {
  double chances = 0;
  for (const ProblemOutcome& o : run.outcomes) chances += o.best_chance;
  return run.outcomes.empty() ? kUndefined : chances / static_cast<double>(run.outcomes.size());
}

bool AboveReachBound(const ArmMeasures& measures) { return measures.accuracy > measures.reach_bound; }

std::vector<std::string> DistinctOf(const std::vector<ArmRun>& runs, std::string ArmRun::*field) {
  std::vector<std::string> values;
  for (const ArmRun& run : runs) {
    if (std::ranges::find(values, run.*field) == values.end()) values.push_back(run.*field);
  }
  return values;
}

std::vector<std::string> ArmsOf(const std::vector<ArmRun>& runs) { return DistinctOf(runs, &ArmRun::arm); }

std::set<std::uint64_t> SeedsOf(const std::vector<ArmRun>& runs) {
  std::set<std::uint64_t> seeds;
  for (const ArmRun& run : runs) seeds.insert(run.seed);
  return seeds;
}

std::vector<StepRange> StepRanges(int n_min, int n_max) {
  SWARR_CHECK(n_min <= n_max, "can't split steps ", n_min, " to ", n_max, " into ranges; give n_min <= n_max");
  const int values = n_max - n_min + 1, count = std::min(4, values);
  std::vector<StepRange> ranges;
  for (int k = 0, from = n_min; k < count; ++k) {
    const int size = values / count + (k < values % count ? 1 : 0);
    ranges.push_back({from, from + size - 1});
    from += size;
  }
  return ranges;
}

void Aggregate(ArmRun& run, const TraceRule& traces, const std::vector<StepRange>& ranges) {
  const auto sum = [&](auto ProblemOutcome::*field) {
    std::int64_t total = 0;
    for (const ProblemOutcome& o : run.outcomes) total += o.*field;
    return total;
  };
  using O = ProblemOutcome;
  run.problems = static_cast<std::int64_t>(run.outcomes.size());
  run.accuracy = Share(sum(&O::correct_sampled), run.problems);
  run.accuracy_greedy = Share(sum(&O::correct_greedy), run.problems);
  run.mean_length = Share(sum(&O::length), run.problems);
  run.truncated = Share(sum(&O::truncated), run.problems);
  std::vector<std::int64_t> counts(traces.counts.size());
  for (const O& o : run.outcomes) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += o.counts.at(i);
  }
  run.mechanism.clear();
  for (const TraceMeasure& measure : traces.measures) run.mechanism.push_back(measure.Of(counts));
  run.within = run.beyond = {};
  for (const O& o : run.outcomes) {
    Tally& tally = o.in_reach ? run.within : run.beyond;
    ++tally.traces;
    tally.right += o.correct_sampled;
  }
  run.in_reach = Share(run.within.traces, run.problems);

  run.accuracy_by_steps.clear();
  for (const StepRange& range : ranges) {
    std::int64_t problems = 0, correct = 0;
    for (const ProblemOutcome& o : run.outcomes) {
      if (o.steps < range.from || o.steps > range.to) continue;
      ++problems;
      correct += o.correct_sampled;
    }
    if (problems > 0) {
      run.accuracy_by_steps.push_back({.steps = range, .problems = problems, .accuracy = Share(correct, problems)});
    }
  }
}

Json ToJson(const StudyResults& results) {
  Json settings = results.settings.is_object() ? results.settings : Json::object();
  settings["data_ceiling"] = Number(results.task.data_ceiling);
  settings["reach"] = ReachOf(results.task.layers, results.task.window);
  const StudySummary& summary = results.summary;
  Json runs = Json::array();
  for (const ArmRun& run : results.runs) runs.push_back(JsonOf(run, results.task.traces()));
  return {{"preset", results.preset},
          {"device", results.device},
          {"cost_device", results.cost_device},
          {"command_line", results.command_line},
          {"source_revision", results.source_revision},
          {"wall_seconds", Number(results.wall_seconds)},
          {"settings", std::move(settings)},
          {"runs", std::move(runs)},
          {"summary",
           {{"gap_sft", summary.gap_sft},
            {"gap_rl", summary.gap_rl},
            {"gap_reduction", summary.gap_reduction},
            {"recovery", summary.recovery},
            {"rl_gain", summary.rl_gain},
            {"rl_over_more_sft", summary.rl_over_more_sft}}},
          {"checks",
           {{"rollout_logprob_max_abs_diff", Number(results.checks.rollout_logprob_max_abs_diff)},
            {"rollout_logprob_tokens", results.checks.rollout_logprob_tokens},
            {"warnings", results.checks.warnings}}},
          {"cost", results.cost}};
}

std::string OutcomesText(const std::vector<ArmRun>& runs, const TraceRule& traces) {
  std::string text;
  for (const ArmRun& run : runs) {
    for (const ProblemOutcome& o : run.outcomes) {
      Json row = {{"arm", run.arm}, {"seed", run.seed}};
      VisitOutcome(o, traces.counts, [&](const char* name, const auto& value) { row[name] = value; });
      text += row.dump() + '\n';
    }
  }
  return text;
}

}  // namespace swarr
