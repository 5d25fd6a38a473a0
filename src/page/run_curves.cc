// SPDX-License-Identifier: Apache-2.0
// The curves of runs, and the line that stands for each.
#include <algorithm>
#include <array>
#include <iomanip>

#include "base/check.h"
#include "page/html.h"
#include "page/run_sections.h"
#include "plot/svg.h"

namespace swarr {
namespace {

// So many points all lines of a page may have together, and one line at most and at least.
constexpr std::size_t kAllPoints = 30'000, kMostPoints = 100, kLeastPoints = 10;
constexpr std::array kColours = {colour::kBlue,   colour::kVermillion, colour::kGreen,
                                 colour::kPurple, colour::kBlack,      colour::kGrey};
constexpr std::size_t kStyles = 2 * kColours.size();  // lines and dashed lines

SeriesStyle StyleOf(const RunOutputs& outputs, const RunOutput& output) {
  const auto place = static_cast<std::size_t>(&output - outputs.data());
  return {.colour = kColours[place % kColours.size()], .line = true, .dashed = place / kColours.size() % 2 == 1};
}

Series LineOf(const RunOutputs& outputs, const RunOutput& output, const TrainingCurve& curve, std::size_t most) {
  Series line{.legend = output.name, .style = StyleOf(outputs, output)};
  const auto points = Thinned(curve.points, most);
  if (points.size() == 1) line.style.marker = Marker::kCircle;  // a line needs two
  for (const auto& [step, value] : points) line.points.push_back({.x = step, .y = value});
  const auto& [first, last] = std::pair(curve.points.front(), curve.points.back());
  line.hover = Concat(output.name, ": ", std::setprecision(4), first[1], " at step ", first[0], ", ", last[1],
                      " at step ", last[0]);
  return line;
}

std::string FigureOf(const RunOutputs& outputs, const std::string& title, bool of_rl, std::size_t most) {
  std::vector<Panel> panels;
  for (const ShownMetric& shown : kShownMetrics) {
    Panel panel{.title = shown.title, .x = {"step"}};
    for (const RunOutput& output : outputs) {
      if ((output.command == "rl") != of_rl) continue;
      const auto curve = std::ranges::find(output.training, shown.metric, &TrainingCurve::metric);
      if (curve != output.training.end()) panel.series.push_back(LineOf(outputs, output, *curve, most));
    }
    if (panel.series.empty()) continue;
    FitAxis(panel.x, panel.series, &PlotPoint::x);
    FitAxis(panel.y, panel.series, &PlotPoint::y);
    panels.push_back(std::move(panel));
  }
  return panels.empty() ? "" : HtmlFigure(SvgFigure(title, panels), "");
}

}  // namespace

std::string LineMark(const RunOutputs& outputs, const RunOutput& output) {
  const SeriesStyle style = StyleOf(outputs, output);
  return Fill(
      "<svg class=\"mark\" width=\"24\" height=\"14\" aria-hidden=\"true\"><path d=\"M0 7H24\" stroke=\"@\" "
      "stroke-width=\"3\"@/></svg>",
      {style.colour, style.dashed ? " stroke-dasharray=\"6 3\"" : ""});
}

std::string CurveSection(const RunOutputs& outputs) {
  std::size_t lines = 0;
  for (const RunOutput& output : outputs) lines += output.training.size();
  if (lines == 0) return "";
  const std::size_t most = std::clamp(kAllPoints / lines, kLeastPoints, kMostPoints);
  return Tag("p",
             Concat("Long curves are means of neighbouring steps. The loss of SFT is a token's, that of RL the "
                    "objective's; entropy is the model's in nats, the gradient's norm that before clipping; "
                    "restating is restatements by steps of the solution, where completions are kept.",
                    outputs.size() > kStyles ? " Some outputs have the same line: a pointer over it tells." : "")) +
         FigureOf(outputs, "SFT", false, most) + FigureOf(outputs, "RL", true, most);
}

}  // namespace swarr
