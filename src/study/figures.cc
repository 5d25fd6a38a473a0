// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/check.h"
#include "plot/bars.h"
#include "plot/svg.h"
#include "study/page/arm_style.h"
#include "study/report.h"
#include "study/statistics.h"
#include "task/ceiling.h"

namespace swarr {
namespace {

// Arms beyond this number are named in the legend: there is no room for more names beside points.
constexpr std::size_t kMostLabels = 8;

// The dashed green line that marks the SFT data.
constexpr SeriesStyle kDataStyle = {.colour = colour::kGreen, .line = true, .dashed = true};

bool HasManyArms(const StudyResults& results) { return ArmsOf(results.runs).size() > kMostLabels; }

// The entry of an arm in a legend: of its way, where there are many arms.
std::string LegendOf(const StudyResults& results, const std::string& arm) {
  const ArmLook* look = LookOf(results.looks, arm);
  return look && HasManyArms(results) ? look->way : ArmName(results.looks, arm);
}

// A line of the arm, named in the legend.
Series LineOf(const StudyResults& results, const std::string& arm) {
  Series line{.legend = LegendOf(results, arm), .style = StyleIn(results, arm)};
  line.style.line = true;
  return line;
}

PlotPoint PointWith(const Interval& interval, double x, double y) {
  return {.x = x, .y = y, .low = interval.low, .high = interval.high};
}

// What a pointer over a run's point shows.
std::string HoverOf(const StudyResults& results, const ArmRun& run) {
  const Estimate accuracy{.mean = run.accuracy, .ci95 = AccuracyInterval(run)};
  return Concat(ArmName(results.looks, run.arm), ", seed ", run.seed, ": accuracy ", FormatEstimate(accuracy), ", g ",
                FormatNumber(run.in_reach), ", accuracy in reach ", FormatNumber(run.within.accuracy()),
                ", mean length ", FormatNumber(run.mean_length, 1));
}

PlotAxis AccuracyAxis() { return {"accuracy (one sample a problem, T = 1)", 0, 1.05}; }

// An arm's runs as points over one of their measures, with its name beside them, or its way's in the legend.
template <class X>
Series AccuracyOver(const X& x, const std::string& arm, const StudyResults& results) {
  Series series{.style = StyleIn(results, arm)};
  (HasManyArms(results) ? series.legend : series.label) = LegendOf(results, arm);
  for (const ArmRun& run : results.runs) {
    if (run.arm != arm) continue;
    series.points.push_back(PointWith(AccuracyInterval(run), x(run), run.accuracy));
    series.points.back().hover = HoverOf(results, run);
  }
  return series;
}

Figure AccuracyAgainstReach(const StudyResults& results) {
  constexpr double kLabelAt = 0.25;
  Panel panel{.x = {"share g of the traces in reach", -0.03, 1.05}, .y = AccuracyAxis()};
  const double guess = results.task.traces().guess;
  panel.series = {
      {.points = {{0, ReachBound(0, guess)}, {1, ReachBound(1, guess)}}, .style = {.line = true}},
      {.label = "reach bound, " + BoundFormula(results.task), .points = {{kLabelAt, ReachBound(kLabelAt, guess)}}}};
  for (const std::string& arm : ArmsOf(results.runs)) {
    panel.series.push_back(AccuracyOver([](const ArmRun& run) { return run.in_reach; }, arm, results));
  }
  return {.file = "accuracy_against_reach.svg",
          .caption = Concat(
              "Accuracy against the share of a policy's own traces that keep what they need in reach. Every point is "
              "one arm and seed, bars are Wilson 95% intervals over its problems. To the right is placement: traces "
              "that the window can follow. Up to the line is competence: right answers on those. The line bounds every "
              "policy under the window: out of reach an answer is a guess.",
              results.task.view().memoryless ? " Where few steps are left to guess among, a guess is worth more than "
                                               "at the line, so that an arm's own bound, in the tables, can lie a "
                                               "little above it."
                                             : "",
              " Full attention (SA) is not bound by it: its g is what the window would leave of its traces."),
          .svg = SvgFigure("Accuracy against traces in reach", {std::move(panel)})};
}

Figure PlacementAndCompetence(const StudyResults& results) {
  std::vector<BarRow> rows;
  for (const ArmMeans& m : MeansByArm(results.runs)) {
    const std::string name = ArmName(results.looks, m.arm);
    const std::string hover = Concat(name, ", mean of all seeds: g ", FormatNumber(m.in_reach), ", accuracy in reach ",
                                     FormatEstimate(AccuracyOf(m.within)), " of ", m.within.traces, " traces");
    Bar placement{.share = m.in_reach, .hover = hover}, competence{.share = m.within.accuracy(), .hover = hover};
    for (const ArmRun& run : results.runs) {
      if (run.arm != m.arm) continue;
      placement.marks.push_back({run.in_reach, HoverOf(results, run)});
      competence.marks.push_back({run.within.accuracy(), HoverOf(results, run)});
    }
    rows.push_back({name, StyleIn(results, m.arm).colour, {std::move(placement), std::move(competence)}});
  }
  return {
      .file = "placement_and_competence.svg",
      .caption =
          "The two factors of the accuracy under the window, a row for each arm: placement, the share of the "
          "policy's own traces that keep what they need in reach, and competence, the accuracy on those. Bars are over "
          "all seeds, points are single seeds.",
      .svg = BarFigure("Placement and competence", {"placement, g", "competence, accuracy in reach"}, rows)};
}

Figure AccuracyAgainstWindow(const StudyResults& results) {
  const TraceMeasure& measure = results.task.traces().measures[kInWindow];
  Panel panel{.x = {"share of the " + measure.head, -0.03, 1.05}, .y = AccuracyAxis()};
  for (const std::string& arm : ArmsOf(results.runs)) {
    panel.series.push_back(AccuracyOver([](const ArmRun& run) { return run.Mechanism(kInWindow); }, arm, results));
  }
  return {.file = "accuracy_against_window.svg",
          .caption = Concat(
              "Accuracy against the share of what a policy's own traces need that one layer sees directly: mentioned "
              "less than W = ",
              results.task.window,
              " tokens before it is used. Every point is one arm and seed, bars are Wilson 95% intervals over its "
              "problems. What is farther away has to be handed on from layer to layer, if it is in reach at all. For "
              "full attention (SA) the share is what the window would show of its traces."),
          .svg = SvgFigure("Accuracy against what is in the window", {std::move(panel)})};
}

// The memoryless ceiling by restatement rate, with its name; nothing for a task that has none.
std::vector<Series> CeilingCurve(const StudyTask& task) {
  if (!task.view().memoryless) return {};
  std::vector<PlotPoint> points;
  constexpr int kCells = 100;
  for (int i = 0; i <= kCells; ++i) {
    const double p = static_cast<double>(i) / kCells;
    points.push_back({p, task.MemorylessCeiling(p, task.sizes())});
  }
  // It is labelled at its middle height, where the curve is steep and leaves room beside it.
  const double middle = (points.front().y + points.back().y) / 2;
  const PlotPoint at_middle = *std::ranges::find_if(points, [&](const PlotPoint& p) { return p.y >= middle; });
  return {{.points = std::move(points), .style = {.line = true}},
          {.label = Concat("memoryless ceiling, ", task.layers, " layers, W = ", task.window), .points = {at_middle}}};
}

Figure AccuracyAgainstRestatement(const StudyResults& results) {
  const StudyTask& task = results.task;
  const double data_rate = task.view().repeat_rate();
  const std::string& head = task.traces().measures[kRepeatRate].head;
  double max_rate = 1;
  for (const ArmRun& run : results.runs) max_rate = std::max(max_rate, run.Mechanism(kRepeatRate));

  Panel panel{.x = {head, -0.03, 1.05 * max_rate}, .y = AccuracyAxis()};
  panel.series = {{.points = {{data_rate, 0}, {data_rate, 1.05}}, .style = kDataStyle}};
  for (Series& series : CeilingCurve(task)) panel.series.push_back(std::move(series));
  panel.series.push_back({.label = Concat("SFT data: rate ", FormatNumber(data_rate, 2), ", ", CeilingName(task), ' ',
                                          FormatNumber(task.data_ceiling, 2)),
                          .points = {{data_rate, task.data_ceiling}},
                          .style = {.colour = colour::kGreen, .marker = Marker::kDiamond}});
  for (const std::string& arm : ArmsOf(results.runs)) {
    panel.series.push_back(AccuracyOver([](const ArmRun& run) { return run.Mechanism(kRepeatRate); }, arm, results));
  }
  const char* curve =
      task.view().memoryless
          ? " The curve is the memoryless ceiling: the best that sliding-window attention can do if it restates at "
            "random at that rate and knows nothing beyond its reach. It comes from arithmetic, not from training. A "
            "policy that times its restatements can stand above it; what bounds every policy is the first figure. Full "
            "attention (SA) is not bound by the curve."
          : "";
  return {.file = "accuracy_against_restatement.svg",
          .caption = Concat("Accuracy against how often a policy restates what is needed. Every point is one arm and "
                            "seed, bars are Wilson 95% intervals over its problems. The dashed line marks the rate of "
                            "the SFT data.",
                            curve),
          .svg = SvgFigure("Accuracy against " + head, {std::move(panel)})};
}

// An arm's accuracy by range of steps, pooled over seeds. Its points are moved to the right by `shift`.
Series PooledAccuracy(const StudyResults& results, const std::string& arm, double shift) {
  ArmRun pooled;
  for (const ArmRun& run : results.runs) {
    if (run.arm == arm) pooled.outcomes.insert(pooled.outcomes.end(), run.outcomes.begin(), run.outcomes.end());
  }
  const auto [from, to] = results.task.sizes();
  Aggregate(pooled, results.task.traces(), StepRanges(from, to));
  Series line = LineOf(results, arm);
  for (const StepsAccuracy& s : pooled.accuracy_by_steps) {
    const auto correct = std::llround(s.accuracy * static_cast<double>(s.problems));
    const double x = (s.steps.from + s.steps.to) / 2.0 + shift;
    const Interval interval = WilsonInterval(correct, s.problems);
    line.points.push_back(PointWith(interval, x, s.accuracy));
    line.points.back().hover = Concat(ArmName(results.looks, arm), ", ", s.steps.from, " to ", s.steps.to,
                                      " steps: accuracy ", FormatEstimate({.mean = s.accuracy, .ci95 = interval}));
  }
  return line;
}

Figure AccuracyBySteps(const StudyResults& results) {
  const StudyTask& task = results.task;
  const auto [from, to] = task.sizes();
  const std::string steps = task.view().step + 's';
  Panel panel{.x = {steps + " of the problem", from - 0.5, to + 0.5}, .y = AccuracyAxis()};
  if (task.view().memoryless) {
    const double rate = task.view().repeat_rate();
    Series ceiling{.legend = Concat("memoryless ceiling at the SFT data's rate ", FormatNumber(rate, 2)),
                   .style = kDataStyle};
    for (int n = from; n <= to; ++n) ceiling.points.push_back({1.0 * n, task.MemorylessCeiling(rate, {n, n})});
    panel.series.push_back(std::move(ceiling));
  }

  const std::vector<std::string> arms = ArmsOf(results.runs);
  for (std::size_t a = 0; a < arms.size(); ++a) {
    // Arms are set a little apart, so that their bars don't cover one another.
    const double shift = 0.1 * (static_cast<double>(a) - (static_cast<double>(arms.size()) - 1) / 2);
    panel.series.push_back(PooledAccuracy(results, arms[a], shift));
  }
  return {.file = "accuracy_by_steps.svg",
          .caption = Concat(
              "Accuracy by the number of ", steps,
              " of a problem, in ranges, seeds pooled; bars are Wilson 95% intervals. Where a window hurts, "
              "long problems fall first.",
              task.view().memoryless ? " The dashed line is the memoryless ceiling at the SFT data's restatement rate."
                                     : ""),
          .svg = SvgFigure("Accuracy by number of " + steps, {std::move(panel)})};
}

Figure LearningCurves(const StudyResults& results) {
  Panel reward{.title = "Reward", .x = {"RL step"}, .y = {"mean reward of the samples", 0, 1.05}};
  Panel rate{.title = "Restatements", .x = {"RL step"}, .y = {results.task.traces().measures[kRepeatRate].head}};
  for (const LearningCurve& curve : results.curves) {
    for (const auto& [panel, value] :
         {std::pair{&reward, &CurvePoint::reward}, std::pair{&rate, &CurvePoint::repeat_rate}}) {
      Series line = LineOf(results, curve.arm);
      line.style.marker = Marker::kNone;
      for (const CurvePoint& point : curve.points) line.points.push_back({point.step, point.*value});
      panel->series.push_back(std::move(line));
    }
  }
  FitAxis(reward.x, reward.series, &PlotPoint::x);
  rate.x = reward.x;
  FitAxis(rate.y, rate.series, &PlotPoint::y);
  rate.y.high = std::max(rate.y.high, 1.05);
  return {.file = kLearningFigure,
          .caption =
              "Training by RL: the mean reward of the samples drawn at each step, and how often they restate. One line "
              "per seed.",
          .svg = SvgFigure("RL: reward and restatements", {std::move(reward), std::move(rate)})};
}

Figure CostAgainstLength(const StudyResults& results) {
  constexpr double kKibibyte = 1024;
  std::vector<Series> memory, decoding, throughput;
  for (const CostPoint& c : results.cost) {
    if (memory.empty() || memory.back().legend != ArmName(results.looks, c.arm)) {
      for (auto* lines : {&memory, &decoding, &throughput}) lines->push_back(LineOf(results, c.arm));
    }
    const auto length = static_cast<double>(c.length);
    const auto add = [&](std::vector<Series>& lines, double value, const char* unit) {
      lines.back().points.push_back({.x = length, .y = value});
      lines.back().points.back().hover =
          Concat(lines.back().legend, ", ", c.length, " tokens: ", std::setprecision(4), value, ' ', unit);
    };
    add(memory, static_cast<double>(c.kv_bytes) / kKibibyte, "KiB");
    add(decoding, c.decode_ms_per_token, "ms a token");
    add(throughput, c.forward_tokens_per_second / 1000, "thousand tokens per second");  // short tick labels
  }
  return {.file = "cost.svg",
          .caption = Concat(
              "What the window buys, by the length of one sequence: its cache, the time of decoding one more token, "
              "and the speed of a forward pass over all of it, measured on ",
              results.cost_device, ". All axes are logarithmic."),
          .svg = SvgFigure("Cost against length",
                           {PanelByLength("Memory", "KV cache, KiB a sequence", std::move(memory)),
                            PanelByLength("Decoding", "decoding, ms a token", std::move(decoding)),
                            PanelByLength("Forward pass", "thousand tokens per second", std::move(throughput))})};
}

}  // namespace

std::vector<Figure> StudyFigures(const StudyResults& results) {
  std::vector<Figure> figures = {AccuracyAgainstReach(results), PlacementAndCompetence(results),
                                 AccuracyAgainstWindow(results), AccuracyAgainstRestatement(results),
                                 AccuracyBySteps(results)};
  if (!results.curves.empty()) figures.push_back(LearningCurves(results));
  if (!results.cost.empty()) figures.push_back(CostAgainstLength(results));
  return figures;
}

}  // namespace swarr
