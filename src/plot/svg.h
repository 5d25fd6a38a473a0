// SPDX-License-Identifier: Apache-2.0
// A small plot writer: panels with axes, lines, markers, interval bars, direct labels and a legend, as SVG text. Labels
// are placed where they cover least of the data and never leave their panel.
#pragma once

#include <concepts>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

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
// What is no data: the ground, tracks and grid lines, the numbers of an axis, lines from labels.
inline constexpr std::string_view kGround = "#ffffff";
inline constexpr std::string_view kTrack = "#ececec";
inline constexpr std::string_view kTick = "#444444";
inline constexpr std::string_view kLeader = "#999999";
}  // namespace colour

// Rules of CSS that put the colours above on a dark ground, wherever SVG names them as fill or stroke.
std::string DarkColours();

struct SeriesStyle {
  std::string_view colour = colour::kBlack;
  Marker marker = Marker::kNone;
  bool filled = true;  // the marker
  bool line = false;   // joins the points in order
  bool dashed = false;
};

// In data units. A point that is not finite, or not positive on a logarithmic axis, is not drawn and interrupts the
// line.
struct PlotPoint {
  double x = 0;
  double y = 0;
  // The ends of a vertical bar; without a bar if one is not finite.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
  std::string hover{};  // what a pointer over the point shows; empty: nothing
};

struct Series {
  std::string legend{};  // entry in the legend, which series may share; empty: none
  std::string label{};   // text beside the point where there is most room; empty: none
  std::vector<PlotPoint> points{};
  SeriesStyle style{};
  std::string hover{};  // of the line
};

struct PlotAxis {
  std::string label{};
  double low = 0;
  double high = 1;  // above low; both positive if logarithmic
  bool logarithmic = false;
};

struct Panel {
  std::string title{};
  PlotAxis x{}, y{};
  std::vector<Series> series{};  // later ones are drawn over earlier ones
};

// Fits `axis` to this coordinate of all points: from 0, or the smallest if negative, to 5% above the largest. A
// logarithmic axis goes from the smallest / 1.5 to the largest * 1.5.
void FitAxis(PlotAxis& axis, const std::vector<Series>& series, double PlotPoint::*coordinate);

// A panel over the length of a sequence in tokens. Both axes are logarithmic and fitted to the points.
Panel PanelByLength(const std::string& title, const std::string& y_label, std::vector<Series> series);

// Pictures are this wide, in pixels: a sheet of A4 paper holds one at its full size, so letters have one size.
constexpr double kFigureWidth = 700;
constexpr double kFontSize = 13;

// A picture of this height as SVG text. Colours follow the reader's preference for dark or light.
std::string SvgPicture(const std::string& title, double height, std::string_view body);

// A marker by itself, as tables and legends show it.
std::string SvgMarker(double x, double y, const SeriesStyle& style);

// How wide a text of the figures' size is, about.
double TextWidth(std::string_view text);

// The panels in rows of two, under one title and one legend. Throws Error for an empty axis range.
std::string SvgFigure(const std::string& title, const std::vector<Panel>& panels);

// Marks between low and high, both included: multiples of 1, 2 or 5 times a power of ten, about six of them; on a
// logarithmic axis powers of ten, with their 2- and 5-fold where these are fewer than four.
std::vector<double> AxisTicks(const PlotAxis& axis);

// What a pointer over the element shows that this stands in; nothing for an empty text.
std::string Hover(std::string_view text);

// Text for SVG and HTML, with the five characters that they reserve replaced by entities, and control characters, which
// XML forbids, by spaces.
std::string EscapeMarkup(std::string_view text);

// Markup as it stands, or a coordinate in pixels, written with two decimals.
struct MarkupValue {
  MarkupValue(double coordinate);
  MarkupValue(const std::convertible_to<std::string_view> auto& markup) : text(std::string_view(markup)) {}
  std::string text;
};

// The pattern with every '@' replaced by the next value.
std::string Fill(std::string_view pattern, std::initializer_list<MarkupValue> values);

}  // namespace swarr
