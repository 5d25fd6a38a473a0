// SPDX-License-Identifier: Apache-2.0
// A small plot writer: panels with axes, lines, markers, interval bars, direct labels and a legend, as SVG text. Labels
// are placed where they cover least of the data and never leave their panel.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "study/results.h"

namespace swarr {

enum class Marker { kNone, kCircle, kSquare, kTriangle, kDiamond };

// Colours that stay apart under the common colour deficiencies (after Okabe and Ito, darkened to be legible as text on
// white).
namespace colour {
inline constexpr std::string_view kBlue = "#0067a5";
inline constexpr std::string_view kVermillion = "#c44e00";
inline constexpr std::string_view kPurple = "#95397a";
inline constexpr std::string_view kGreen = "#00775a";
inline constexpr std::string_view kGrey = "#666666";
inline constexpr std::string_view kBlack = "#222222";
}  // namespace colour

struct SeriesStyle {
  std::string colour{colour::kBlack};
  Marker marker = Marker::kNone;
  bool filled = true;  // the marker
  bool line = false;   // joins the points in order
  bool dashed = false;
};

// In data units. Points that are not finite, or not positive on a logarithmic axis, interrupt the line and are not
// drawn.
struct PlotPoint {
  double x = 0;
  double y = 0;
  std::optional<Interval> interval;  // a vertical bar
};

struct Series {
  std::string legend;                   // entry in the legend; empty: none. Series of the same entry share one
  std::string label;                    // text beside one of the points; empty: none
  std::optional<std::size_t> label_at;  // which point; none: the one where there is most room
  std::vector<PlotPoint> points;
  SeriesStyle style;
};

struct PlotAxis {
  std::string label;
  double low = 0;
  double high = 1;  // above low; both positive if logarithmic
  bool logarithmic = false;
};

struct Panel {
  std::string title;
  PlotAxis x, y;
  std::vector<Series> series;  // later ones are drawn over earlier ones
};

// Panels side by side under one title, with one legend below it. Throws Error for an empty axis range.
std::string SvgFigure(const std::string& title, const std::vector<Panel>& panels);

// Text with the five characters that XML and HTML reserve replaced by entities, and control characters, which XML
// forbids, by spaces.
std::string EscapeMarkup(std::string_view text);

// Marks between low and high, both included: multiples of 1, 2 or 5 times a power of ten, about six of them; on a
// logarithmic axis powers of ten, with their 2- and 5-fold where these are fewer than four.
std::vector<double> AxisTicks(const PlotAxis& axis);

}  // namespace swarr
