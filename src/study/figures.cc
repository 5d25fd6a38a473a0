// SPDX-License-Identifier: Apache-2.0
#include "study/figures.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "study/statistics.h"
#include "study/svg.h"
#include "task/ceiling.h"
#include "tensor/check.h"

namespace swarr {
namespace {

std::string Rounded(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.2f", value);
  return buffer;
}

// SA is blue and round, SWA vermillion and square; open before RL, filled after. Controls have colours and shapes of
// their own.
SeriesStyle StyleOf(const std::string& arm) {
  using enum Marker;
  const auto style = [](std::string_view colour, Marker marker, bool filled) {
    return SeriesStyle{.colour = std::string(colour), .marker = marker, .filled = filled};
  };
  if (arm == "sa_rl" || arm == "sa") return style(colour::kBlue, kCircle, true);
  if (arm == "sa_sft") return style(colour::kBlue, kCircle, false);
  if (arm == "sa_base") return style(colour::kGrey, kCircle, false);
  if (arm == "swa_rl" || arm == "swa") return style(colour::kVermillion, kSquare, true);
  if (arm == "swa_sft") return style(colour::kVermillion, kSquare, false);
  if (arm == "swa_sft_more") return style(colour::kPurple, kTriangle, false);
  if (arm == "swa_converted") return style(colour::kGrey, kDiamond, false);
  return style(colour::kGreen, kDiamond, true);
}

std::vector<std::string> ArmsOf(const std::vector<ArmRun>& runs) {
  std::vector<std::string> arms;
  for (const ArmRun& run : runs) {
    if (std::find(arms.begin(), arms.end(), run.arm) == arms.end()) arms.push_back(run.arm);
  }
  return arms;
}

Series CeilingCurve(const StudyTask& task) {
  Series series;
  series.label = Concat("receptive-field ceiling, ", task.layers, " layers, W = ", task.window);
  series.style = {.colour = std::string(colour::kBlack), .line = true};
  constexpr int kCells = 100;
  for (int i = 0; i <= kCells; ++i) {
    const double p = static_cast<double>(i) / kCells;
    series.points.push_back({p, ReceptiveFieldCeiling(task.layers, task.window, p, task.n_min, task.n_max), {}});
  }
  // Labelled at its middle height, where the curve is steep and leaves room beside it.
  const double middle = (series.points.front().y + series.points.back().y) / 2;
  const auto above =
      std::find_if(series.points.begin(), series.points.end(), [&](const PlotPoint& p) { return p.y >= middle; });
  series.label_at = static_cast<std::size_t>(above - series.points.begin());
  return series;
}

Figure AccuracyAgainstRestatement(const StudyResults& results) {
  const StudyTask& task = results.task;
  double max_rate = 1;
  for (const ArmRun& run : results.runs) max_rate = std::max(max_rate, run.restatement_rate);

  Panel panel{.title = "",
              .x = {"restatements per step", -0.03, 1.05 * max_rate},
              .y = {"accuracy (one sample a problem, T = 1)", 0, 1.05},
              .series = {}};
  Series data_rate;
  data_rate.points = {{task.data_restatement_rate, 0, {}}, {task.data_restatement_rate, 1.05, {}}};
  data_rate.style = {.colour = std::string(colour::kGreen), .line = true, .dashed = true};
  Series data_ceiling;
  data_ceiling.points = {{task.data_restatement_rate, task.data_ceiling, {}}};
  data_ceiling.label =
      Concat("SFT data: rate ", Rounded(task.data_restatement_rate), ", ceiling ", Rounded(task.data_ceiling));
  data_ceiling.style = {.colour = std::string(colour::kGreen), .marker = Marker::kDiamond};
  panel.series = {data_rate, CeilingCurve(task), data_ceiling};

  for (const std::string& arm : ArmsOf(results.runs)) {
    Series series;
    series.label = ArmName(arm);
    series.style = StyleOf(arm);
    for (const ArmRun& run : results.runs) {
      if (run.arm == arm) series.points.push_back({run.restatement_rate, run.accuracy, AccuracyInterval(run)});
    }
    panel.series.push_back(std::move(series));
  }
  return {
      "accuracy_against_restatement.svg",
      "Accuracy against how often a policy restates the facts. Every point is one arm and seed, bars are Wilson 95% "
      "intervals over its problems. The curve is the best that sliding-window attention can do at each rate if "
      "nothing beyond its receptive field is known; it comes from arithmetic, not from training. The dashed line "
      "marks the rate of the SFT data. Full attention (SA) is not bound by the curve.",
      SvgFigure("Accuracy against restatement rate", {std::move(panel)})};
}

Figure AccuracyBySteps(const StudyResults& results) {
  const StudyTask& task = results.task;
  Panel panel{
      .title = "",
      .x = {"steps of the problem", static_cast<double>(task.n_min) - 0.5, static_cast<double>(task.n_max) + 0.5},
      .y = {"accuracy (one sample a problem, T = 1)", 0, 1.05},
      .series = {}};
  Series ceiling;
  ceiling.legend = Concat("ceiling at the SFT data's rate ", Rounded(task.data_restatement_rate));
  ceiling.style = {.colour = std::string(colour::kGreen), .line = true, .dashed = true};
  const std::vector<double> by_steps =
      ReceptiveFieldCeilingBySteps(task.layers, task.window, task.data_restatement_rate, task.n_min, task.n_max);
  for (std::size_t i = 0; i < by_steps.size(); ++i) {
    ceiling.points.push_back({static_cast<double>(task.n_min) + static_cast<double>(i), by_steps[i], {}});
  }
  panel.series.push_back(std::move(ceiling));

  const std::vector<std::string> arms = ArmsOf(results.runs);
  const double arm_count = static_cast<double>(arms.size());
  for (std::size_t a = 0; a < arms.size(); ++a) {
    Series series;
    series.legend = ArmName(arms[a]);
    series.style = StyleOf(arms[a]);
    series.style.line = true;
    // Pooled over seeds, by range. Arms are set a little apart, so that their bars don't cover one another.
    std::vector<StepsAccuracy> pooled;
    std::vector<std::int64_t> correct;
    for (const ArmRun& run : results.runs) {
      if (run.arm != arms[a]) continue;
      for (const StepsAccuracy& s : run.accuracy_by_steps) {
        std::size_t i = 0;
        while (i < pooled.size() && pooled[i].steps.from != s.steps.from) ++i;
        if (i == pooled.size()) pooled.push_back({s.steps, 0, 0}), correct.push_back(0);
        pooled[i].problems += s.problems;
        correct[i] += std::llround(s.accuracy * static_cast<double>(s.problems));
      }
    }
    for (std::size_t i = 0; i < pooled.size(); ++i) {
      const double middle = (pooled[i].steps.from + pooled[i].steps.to) / 2.0;
      const double apart = 0.1 * (static_cast<double>(a) - (arm_count - 1) / 2);
      const double accuracy = static_cast<double>(correct[i]) / static_cast<double>(pooled[i].problems);
      series.points.push_back({middle + apart, accuracy, WilsonInterval(correct[i], pooled[i].problems)});
    }
    panel.series.push_back(std::move(series));
  }
  return {
      "accuracy_by_steps.svg",
      "Accuracy by the number of steps of a problem, in ranges, seeds pooled; bars are Wilson 95% intervals. Where a "
      "window hurts, long problems fall first. The dashed line is the ceiling at the SFT data's restatement rate.",
      SvgFigure("Accuracy by number of steps", {std::move(panel)})};
}

// The smallest axis range of round numbers that holds the values of all series in direction `y` or x.
void FitAxis(PlotAxis& axis, const std::vector<Series>& series, double PlotPoint::*coordinate) {
  double low = axis.logarithmic ? 1e300 : 0, high = axis.logarithmic ? 1e-300 : 0;
  for (const Series& s : series) {
    for (const PlotPoint& p : s.points) {
      const double value = p.*coordinate;
      if (!std::isfinite(value) || (axis.logarithmic && value <= 0)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  axis.low = axis.logarithmic ? low / 1.5 : low;
  axis.high = axis.logarithmic ? high * 1.5 : std::max(high * 1.05, low + 1e-3);
  if (axis.low >= axis.high) axis.low = 0.5, axis.high = 2;  // nothing to draw
}

Figure LearningCurves(const StudyResults& results) {
  Panel reward{.title = "Reward", .x = {"RL step"}, .y = {"mean reward of the samples", 0, 1.05}, .series = {}};
  Panel rate{.title = "Restatements", .x = {"RL step"}, .y = {"restatements per step"}, .series = {}};
  for (const LearningCurve& curve : results.curves) {
    Series series;
    series.legend = ArmName(curve.arm);
    series.style = StyleOf(curve.arm);
    series.style.marker = Marker::kNone;
    series.style.line = true;
    const auto points = [&](const std::vector<double>& values) {
      std::vector<PlotPoint> joined;
      for (std::size_t i = 0; i < std::min(curve.step.size(), values.size()); ++i) {
        joined.push_back({curve.step[i], values[i], {}});
      }
      return joined;
    };
    series.points = points(curve.reward);
    reward.series.push_back(series);
    series.points = points(curve.restatement_rate);
    rate.series.push_back(std::move(series));
  }
  FitAxis(reward.x, reward.series, &PlotPoint::x);
  rate.x = reward.x;
  FitAxis(rate.y, rate.series, &PlotPoint::y);
  rate.y.high = std::max(rate.y.high, 1.05);
  return {"learning_curves.svg",
          "Training by RL: the mean reward of the samples drawn at each step, and how often they restate. One line per "
          "seed.",
          SvgFigure("RL: reward and restatements", {std::move(reward), std::move(rate)})};
}

Figure CostAgainstLength(const StudyResults& results) {
  constexpr double kKibibyte = 1024;
  Panel memory{.title = "Memory", .x = {"sequence length, tokens"}, .y = {"KV cache, KiB a sequence"}, .series = {}};
  Panel time{.title = "Decoding", .x = {"sequence length, tokens"}, .y = {"decoding, ms a token"}, .series = {}};
  for (PlotAxis* axis : {&memory.x, &memory.y, &time.x, &time.y}) axis->logarithmic = true;
  std::vector<Series> throughput;
  std::vector<std::string> arms;
  for (const CostPoint& c : results.cost) {
    auto found = std::find(arms.begin(), arms.end(), c.arm);
    if (found == arms.end()) {
      Series series;
      series.legend = ArmName(c.arm);
      series.style = StyleOf(c.arm);
      series.style.line = true;
      memory.series.push_back(series);
      throughput.push_back(series);
      time.series.push_back(std::move(series));
      found = arms.insert(arms.end(), c.arm);
    }
    const auto i = static_cast<std::size_t>(found - arms.begin());
    const auto length = static_cast<double>(c.length);
    memory.series[i].points.push_back({length, static_cast<double>(c.kv_bytes) / kKibibyte, {}});
    time.series[i].points.push_back({length, c.decode_ms_per_token, {}});
    throughput[i].points.push_back({length, c.forward_tokens_per_second, {}});
  }
  FitAxis(memory.x, memory.series, &PlotPoint::x);
  FitAxis(memory.y, memory.series, &PlotPoint::y);
  time.x = memory.x;
  FitAxis(time.y, time.series, &PlotPoint::y);
  Panel forward = ThroughputPanel(std::move(throughput));
  forward.title = "Forward pass";
  return {"cost.svg",
          Concat("What the window buys, by the length of one sequence: its cache, the time of decoding one more token, "
                 "and the speed of a forward pass over all of it, measured on ",
                 results.device, ". All axes are logarithmic."),
          SvgFigure("Cost against length", {std::move(memory), std::move(time), std::move(forward)})};
}

}  // namespace

std::vector<Figure> StudyFigures(const StudyResults& results) {
  std::vector<Figure> figures = {AccuracyAgainstRestatement(results), AccuracyBySteps(results)};
  if (!results.curves.empty()) figures.push_back(LearningCurves(results));
  if (!results.cost.empty()) figures.push_back(CostAgainstLength(results));
  return figures;
}

Panel ThroughputPanel(std::vector<Series> series) {
  for (Series& s : series) {
    for (PlotPoint& p : s.points) p.y /= 1000;  // short tick labels
  }
  Panel panel{.title = "",
              .x = {.label = "sequence length, tokens", .logarithmic = true},
              .y = {.label = "thousand tokens per second", .logarithmic = true},
              .series = std::move(series)};
  FitAxis(panel.x, panel.series, &PlotPoint::x);
  FitAxis(panel.y, panel.series, &PlotPoint::y);
  return panel;
}

}  // namespace swarr
