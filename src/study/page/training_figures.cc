// SPDX-License-Identifier: Apache-2.0
// The training of every arm as a row of small panels, one for each number, with a line for each seed.
#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/check.h"
#include "page/html.h"
#include "plot/svg.h"
#include "study/page/arm_style.h"
#include "study/page/sections.h"

namespace swarr {
namespace {

// All in pixels.
constexpr double kPanelTop = 42, kPanelHeight = 62, kRowBottom = 22, kTickRoom = 50;
// So many points all lines may have together, which keeps the page small, and one line at most and at least.
constexpr std::size_t kAllPoints = 50000, kMostPoints = 50, kLeastPoints = 10;

struct Range {
  double low = 0, high = 0;

  void Take(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  double ShareOf(double value) const { return high > low ? (value - low) / (high - low) : 0; }
};

const TrainingCurve* CurveOf(const ArmRun& run, std::string_view metric) {
  const auto found = std::ranges::find(run.training, metric, &TrainingCurve::metric);
  return found == run.training.end() ? nullptr : &*found;
}

// Arms that were trained in the same way: their panels have the same axes.
struct TrainingGroup {
  std::string title, caption;
  std::vector<const ArmRun*> runs;
  std::vector<ShownMetric> metrics{};
  std::vector<Range> values{};  // by metric
  Range steps{};
};

void Measure(TrainingGroup& group) {
  for (const ShownMetric& shown : kShownMetrics) {
    Range range;
    bool any = false;
    for (const ArmRun* run : group.runs) {
      const TrainingCurve* curve = CurveOf(*run, shown.metric);
      if (!curve) continue;
      any = true;
      for (const auto& [step, value] : curve->points) group.steps.Take(step), range.Take(value);
    }
    if (any) group.metrics.push_back(shown), group.values.push_back(range);
  }
}

std::string Label(double x, double y, std::string_view text, std::string_view anchor, std::string_view fill) {
  return Fill("<text x=\"@\" y=\"@\" text-anchor=\"@\" fill=\"@\">@</text>\n",
              {x, y, anchor, fill, EscapeMarkup(text)});
}

std::string Short(double value) {
  return std::abs(value) >= 100 ? Concat(std::llround(value)) : Concat(std::setprecision(2), value);
}

// One line. Coordinates have a decimal: there are many.
std::string LineOfSeed(const std::vector<std::array<double, 2>>& points, const TrainingGroup& group, std::size_t metric,
                       std::array<double, 2> corner, double width) {
  std::string coordinates;
  for (const auto& [step, value] : points) {
    if (!std::isfinite(value)) continue;
    const double x = corner[0] + width * group.steps.ShareOf(step);
    const double y = corner[1] + kPanelHeight * (1 - group.values[metric].ShareOf(value));
    coordinates += Concat(coordinates.empty() ? "" : " ", std::fixed, std::setprecision(1), x, ',', y);
  }
  return coordinates;
}

std::string Row(const StudyResults& results, const TrainingGroup& group, const std::string& arm, std::size_t most) {
  const SeriesStyle style = StyleIn(results, arm);
  const std::string name = ArmName(results.looks, arm);
  std::string body =
      SvgMarker(9, 12, style) + Fill("<text x=\"22\" y=\"16.5\" font-weight=\"600\">@</text>\n", {EscapeMarkup(name)});
  const double cell = kFigureWidth / static_cast<double>(group.metrics.size()), width = cell - kTickRoom - 8;
  const double bottom = kPanelTop + kPanelHeight;
  for (std::size_t m = 0; m < group.metrics.size(); ++m) {
    const double x = cell * static_cast<double>(m) + kTickRoom;
    body += Label(x - kTickRoom + 12, kPanelTop - 7, group.metrics[m].title, "start", colour::kTick);
    body +=
        Fill("<path d=\"M@ @V@H@\" fill=\"none\" stroke=\"@\"/>\n", {x, kPanelTop, bottom, x + width, colour::kTick});
    body += Label(x - 5, kPanelTop + 10, Short(group.values[m].high), "end", colour::kTick);
    body += Label(x - 5, bottom, Short(group.values[m].low), "end", colour::kTick);
    if (m == 0) body += Label(x, bottom + 16, Concat("to step ", group.steps.high), "start", colour::kTick);
    for (const ArmRun* run : group.runs) {
      const TrainingCurve* curve = run->arm == arm ? CurveOf(*run, group.metrics[m].metric) : nullptr;
      if (!curve || curve->points.empty()) continue;
      const auto& [first, last] = std::pair(curve->points.front(), curve->points.back());
      body +=
          Fill("<polyline points=\"@\" fill=\"none\" stroke=\"@\" stroke-width=\"1.3\" opacity=\"0.85\">@</polyline>\n",
               {LineOfSeed(Thinned(curve->points, most), group, m, {x, kPanelTop}, width), style.colour,
                Hover(Concat(name, ", seed ", run->seed, ": ", group.metrics[m].title, ' ', std::setprecision(4),
                             first[1], " at step ", first[0], ", ", last[1], " at step ", last[0]))});
    }
  }
  const double height = bottom + kRowBottom;
  return Fill(
      "<svg width=\"@\" height=\"@\" role=\"img\" aria-label=\"@\" font-family=\"Helvetica, Arial, sans-serif\" "
      "font-size=\"@\" fill=\"@\">\n@</svg>\n",
      {kFigureWidth, height, EscapeMarkup("Training of " + name), kFontSize, colour::kBlack, body});
}

// Curves of RL that only the study's own figure has, in older records; its counts of restatements in all.
std::vector<ArmRun> WithCurves(const StudyResults& results) {
  std::vector<ArmRun> runs;
  std::size_t next = 0;  // curves have the order of the runs that have one
  for (const ArmRun& run : results.runs) {
    ArmRun& copy = runs.emplace_back();
    copy.arm = run.arm, copy.seed = run.seed, copy.training = run.training;
    if (next == results.curves.size() || results.curves[next].arm != run.arm) continue;
    TrainingCurve reward{.metric = "reward"}, rate{.metric = kRestatementMetric};
    for (const CurvePoint& p : results.curves[next].points) {
      reward.points.push_back({p.step, p.reward});
      rate.points.push_back({p.step, p.repeat_rate});
    }
    ++next;
    if (!CurveOf(copy, reward.metric)) copy.training.push_back(std::move(reward));
    copy.training.push_back(std::move(rate));
  }
  std::erase_if(runs, [](const ArmRun& run) { return run.training.empty(); });
  return runs;
}

}  // namespace

std::string TrainingSection(const StudyResults& results) {
  const std::vector<ArmRun> runs = WithCurves(results);
  TrainingGroup sft{.title = "SFT",
                    .caption =
                        "The loss a token, the entropy of the model's predictions in nats and the norm of the "
                        "gradient before clipping. A line for each seed; all arms have the same axes.",
                    .runs = {}};
  TrainingGroup rl{.title = "RL",
                   .caption =
                       "The objective's loss; mean reward, restatements a step and length of the samples; the "
                       "entropy of the policy in nats; the norm of the gradient before clipping. A line for "
                       "each seed; all arms have the same axes.",
                   .runs = {}};
  std::size_t lines = 0;
  for (const ArmRun& run : runs) {
    (CurveOf(run, "reward") ? rl : sft).runs.push_back(&run);
    lines += run.training.size();
  }
  if (lines == 0) return "";
  const std::size_t most = std::clamp(kAllPoints / lines, kLeastPoints, kMostPoints);
  std::string out;
  for (TrainingGroup* group : {&sft, &rl}) {
    if (group->runs.empty()) continue;
    Measure(*group);
    out += Tag("h3", group->title) + Tag("p", group->caption);
    for (const std::string& arm : ArmsOf(results.runs)) {
      if (std::ranges::find(group->runs, arm, &ArmRun::arm) == group->runs.end()) continue;
      out += HtmlFigure(Row(results, *group, arm, most), "");
    }
  }
  return out;
}

}  // namespace swarr
