// SPDX-License-Identifier: Apache-2.0
#include "plot/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <numbers>
#include <set>

#include "base/check.h"

namespace swarr {
namespace {

// All in pixels. Text widths are estimates: no font is at hand when the file is written, and viewers differ.
constexpr double kGlyphWidth = 0.56;  // of the font size; a little above the mean of common sans-serif faces
constexpr double kMarkerRadius = 5;
// The margins of a panel around its frame.
constexpr double kLeft = 62, kRight = 18, kTop = 34, kTopUntitled = 12, kBottom = 52;
constexpr double kTitleHeight = 34, kLegendRow = 22;

using Point = std::array<double, 2>;

struct Box {
  double x0, y0, x1, y1;
  double Overlap(const Box& o) const {
    const double w = std::min(x1, o.x1) - std::max(x0, o.x0), h = std::min(y1, o.y1) - std::max(y0, o.y0);
    return w > 0 && h > 0 ? w * h : 0;
  }
  Box Grown(double by) const { return {x0 - by, y0 - by, x1 + by, y1 + by}; }
  Box Moved(double dx, double dy) const { return {x0 + dx, y0 + dy, x1 + dx, y1 + dy}; }
};

std::string Text(double x, double y, std::string_view text, std::string_view attributes = "") {
  return Fill("<text x=\"@\" y=\"@\" @>@</text>\n", {x, y, attributes, EscapeMarkup(text)});
}

// 20k for 20000, so that the ticks of many decades fit beside each other.
std::string TickText(double value) {
  if (std::abs(value) >= 1e9) return Concat(std::scientific, std::setprecision(1), value);
  if (std::abs(value) >= 1e6) return Concat(value / 1e6, "M");
  return std::abs(value) >= 1e4 ? Concat(value / 1e3, "k") : Concat(value);
}

std::string TickLabel(double x, double y, double value, std::string_view anchor) {
  return Text(x, y, TickText(value), Fill(R"(fill="@" text-anchor="@")", {colour::kTick, anchor}));
}

std::string Line(double x0, double y0, double x1, double y1, std::string_view stroke, std::string_view width) {
  return Fill("<line x1=\"@\" y1=\"@\" x2=\"@\" y2=\"@\" stroke=\"@\" stroke-width=\"@\"/>\n",
              {x0, y0, x1, y1, stroke, width});
}

// The attribute `points` of a line or polygon.
std::string Coordinates(const std::vector<Point>& points) {
  std::string text;
  for (const auto& [x, y] : points) text += Fill(text.empty() ? "@,@" : " @,@", {x, y});
  return text;
}

// The shape of a marker, as an element without its end.
std::string MarkerShape(double x, double y, const SeriesStyle& style) {
  std::vector<Point> corners;
  switch (style.marker) {
    case Marker::kNone:
    case Marker::kCircle:
      break;
    case Marker::kSquare:
      corners = {{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}};
      break;
    case Marker::kTriangle:
      corners = {{0, -1.15}, {1.1, 0.85}, {-1.1, 0.85}};
      break;
    case Marker::kDiamond:
      corners = {{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}};
      break;
  }
  if (style.marker == Marker::kNone) return "";
  for (auto& [dx, dy] : corners) dx = x + dx * kMarkerRadius, dy = y + dy * kMarkerRadius;
  const std::string shape = corners.empty() ? Fill(R"(circle cx="@" cy="@" r="@")", {x, y, kMarkerRadius})
                                            : Fill("polygon points=\"@\"", {Coordinates(corners)});
  return Fill(R"(<@ fill="@" stroke="@" stroke-width="2")",
              {shape, style.filled ? style.colour : colour::kGround, style.colour});
}

// An element, given without its end, with what a pointer over it shows.
std::string Closed(const std::string& element, std::string_view name, std::string_view hover) {
  return hover.empty() ? element + "/>\n" : Fill("@>@</@>\n", {element, Hover(hover), name});
}

std::string MarkerAt(double x, double y, const SeriesStyle& style, std::string_view hover = "") {
  const std::string shape = MarkerShape(x, y, style);
  if (shape.empty()) return "";
  return Closed(shape, std::string_view(shape).substr(1, shape.find(' ') - 1), hover);
}

std::string PolyLine(const std::vector<Point>& points, const SeriesStyle& style, std::string_view hover = "") {
  if (points.size() < 2) return "";
  return Closed(Fill(R"(<polyline points="@" fill="none" stroke="@" stroke-width="2" stroke-linejoin="round"@)",
                     {Coordinates(points), style.colour, style.dashed ? " stroke-dasharray=\"6 4\"" : ""}),
                "polyline", hover);
}

double ShareOf(const PlotAxis& axis, double value) {
  const double share = axis.logarithmic ? std::log(value / axis.low) / std::log(axis.high / axis.low)
                                        : (value - axis.low) / (axis.high - axis.low);
  return std::clamp(share, 0.0, 1.0);  // what lies outside is drawn on the frame
}

bool HasPlace(const PlotAxis& axis, double value) { return std::isfinite(value) && (!axis.logarithmic || value > 0); }

// The place of a label beside a point.
struct LabelPlace {
  Box box{};
  Point point{};
  double distance = 0;
  double cost = 1e300;
};

// Tries sixteen directions at four distances around the point. Takes the place that covers least of the obstacles and
// prefers near and level ones.
LabelPlace PlaceLabel(const Point& point, double w, double h, const Box& frame, const std::vector<Box>& obstacles) {
  LabelPlace best;
  for (const double distance : {11.0, 19.0, 32.0, 52.0}) {
    for (int k = 0; k < 16; ++k) {
      const double angle = std::numbers::pi / 8 * k, dx = std::cos(angle), dy = std::sin(angle);
      // The label's nearest edge, not its middle, is `distance` away.
      const double cx = point[0] + dx * (distance + w / 2), cy = point[1] + dy * (distance + h / 2);
      const Box box{cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
      double cost = 1.5 * distance + 6 * std::abs(dy);
      for (const Box& o : obstacles) cost += 10 * box.Grown(1).Overlap(o);
      cost += 1000 * (w * h - box.Overlap(frame));
      if (cost < best.cost) best = {.box = box, .point = point, .distance = distance, .cost = cost};
    }
  }
  // The last resort for a label that fits nowhere.
  best.box = best.box.Moved(std::min(0.0, frame.x1 - best.box.x1) + std::max(0.0, frame.x0 - best.box.x0),
                            std::min(0.0, frame.y1 - best.box.y1) + std::max(0.0, frame.y0 - best.box.y0));
  return best;
}

// Draws one panel inside `frame`, its axes around it.
class PanelWriter {
 public:
  PanelWriter(const Panel& panel, const Box& frame) : panel_(panel), frame_(frame) {}

  std::string Write() {
    for (const PlotAxis* axis : {&panel_.x, &panel_.y}) {
      SWARR_CHECK(axis->low < axis->high && (!axis->logarithmic || axis->low > 0), "the axis '", axis->label,
                  "' has the empty range ", axis->low, " to ", axis->high, "; give low < high, above 0 if logarithmic");
    }
    WriteAxes();
    // The first ones are on top: what a figure is about comes before what stands beside it.
    for (auto series = panel_.series.rbegin(); series != panel_.series.rend(); ++series) WriteSeries(*series);
    for (const Series& series : panel_.series) WriteLabel(series);
    return std::move(out_);
  }

 private:
  double X(double x) const { return frame_.x0 + ShareOf(panel_.x, x) * (frame_.x1 - frame_.x0); }
  double Y(double y) const { return frame_.y1 - ShareOf(panel_.y, y) * (frame_.y1 - frame_.y0); }
  bool Drawable(const PlotPoint& p) const { return HasPlace(panel_.x, p.x) && HasPlace(panel_.y, p.y); }
  // What a label must not cover.
  void Block(const Box& box, double margin) { obstacles_.push_back(box.Grown(margin)); }

  void WriteAxes() {
    const Box& f = frame_;
    double free_from = f.x0 - kLeft;  // a number that would touch the one before is left out
    for (const double tick : AxisTicks(panel_.x)) {
      out_ += Line(X(tick), f.y0, X(tick), f.y1, colour::kTrack, "1");
      const double half = TextWidth(TickText(tick)) / 2;
      if (X(tick) - half < free_from) continue;
      out_ += TickLabel(X(tick), f.y1 + 17, tick, "middle");
      free_from = X(tick) + half + 6;
    }
    for (const double tick : AxisTicks(panel_.y)) {
      out_ += Line(f.x0, Y(tick), f.x1, Y(tick), colour::kTrack, "1") + TickLabel(f.x0 - 7, Y(tick) + 4, tick, "end");
    }
    out_ += Line(f.x0, f.y1, f.x1, f.y1, colour::kTick, "1") + Line(f.x0, f.y0, f.x0, f.y1, colour::kTick, "1");
    out_ += Text((f.x0 + f.x1) / 2, f.y1 + 39, panel_.x.label, "text-anchor=\"middle\"");
    const double x = f.x0 - kLeft + 16, y = (f.y0 + f.y1) / 2;
    out_ += Text(x, y, panel_.y.label, Fill("text-anchor=\"middle\" transform=\"rotate(-90 @ @)\"", {x, y}));
    if (!panel_.title.empty()) out_ += Text(f.x0, f.y0 - 11, panel_.title, "font-weight=\"600\"");
  }

  void WriteSeries(const Series& series) {
    if (series.style.line) WriteLine(series);
    for (const PlotPoint& p : series.points) {
      if (!Drawable(p)) continue;
      const double x = X(p.x), y = Y(p.y);
      if (std::isfinite(p.low) && std::isfinite(p.high)) {
        out_ += Line(x, Y(p.high), x, Y(p.low), series.style.colour, "1.5");
        Block({x, Y(p.high), x, Y(p.low)}, 2);
      }
      out_ += MarkerAt(x, y, series.style, p.hover);
      if (series.style.marker != Marker::kNone) Block({x, y, x, y}, kMarkerRadius + 2);
    }
  }

  void WriteLine(const Series& series) {
    std::vector<Point> run;
    for (const PlotPoint& p : series.points) {
      if (!Drawable(p)) {
        out_ += PolyLine(run, series.style, series.hover);
        run.clear();
        continue;
      }
      const Point from = run.empty() ? Point{X(p.x), Y(p.y)} : run.back(), to = {X(p.x), Y(p.y)};
      const double length = std::hypot(to[0] - from[0], to[1] - from[1]);
      for (int k = 0; length > 0 && 4 * k <= length; ++k) {  // a place every 4 pixels; none where no line is
        const double share = 4 * k / length;
        const double x = from[0] + share * (to[0] - from[0]), y = from[1] + share * (to[1] - from[1]);
        Block({x, y, x, y}, 2);
      }
      run.push_back(to);
    }
    out_ += PolyLine(run, series.style, series.hover);
  }

  // A label that has been placed is an obstacle for those that follow.
  void WriteLabel(const Series& series) {
    if (series.label.empty()) return;
    LabelPlace best;
    for (const PlotPoint& p : series.points) {
      if (!Drawable(p)) continue;
      const LabelPlace place = PlaceLabel({X(p.x), Y(p.y)}, TextWidth(series.label), kFontSize, frame_, obstacles_);
      if (place.cost < best.cost) best = place;
    }
    if (best.distance == 0) return;  // no point to stand beside
    const Box& box = best.box;
    const auto [x, y] = best.point;
    if (best.distance > 20) {
      out_ += Line(x, y, std::clamp(x, box.x0, box.x1), std::clamp(y, box.y0, box.y1), colour::kLeader, "0.8");
    }
    Block(box, 2);
    // An outline of the ground keeps the text legible where it must cross a grid line.
    out_ += Text(
        box.x0, box.y1 - 0.18 * kFontSize, series.label,
        Fill(R"(fill="@" stroke="@" stroke-width="3" paint-order="stroke")", {series.style.colour, colour::kGround}));
  }

  const Panel& panel_;
  const Box frame_;
  std::string out_;
  std::vector<Box> obstacles_;
};

// The legend's entries, in rows that fit `width`. `height` grows by that of the rows.
std::string DrawLegend(const std::vector<Panel>& panels, double width, double& height) {
  std::set<std::string> seen;
  std::string out;
  double x = kLeft;
  const double swatch = 30, gap = 22;
  for (const Panel& panel : panels) {
    for (const Series& series : panel.series) {
      if (series.legend.empty() || !seen.insert(series.legend).second) continue;
      const double entry = swatch + TextWidth(series.legend);
      if (x > kLeft && x + entry > width - kRight) x = kLeft, height += kLegendRow;
      if (series.style.line) out += PolyLine({{{x, height + 8}, {x + swatch - 6, height + 8}}}, series.style);
      out += MarkerAt(x + swatch / 2 - 3, height + 8, series.style);
      out += Text(x + swatch, height + 12.5, series.legend);
      x += entry + gap;
    }
  }
  if (!seen.empty()) height += kLegendRow;
  return out;
}

}  // namespace

std::vector<double> AxisTicks(const PlotAxis& axis) {
  std::vector<double> ticks;
  const double slack = 1e-9;  // a limit that is a mark up to rounding keeps it
  if (axis.logarithmic) {
    const double decades = std::log10(axis.high / axis.low);
    const int least = static_cast<int>(std::floor(std::log10(axis.low))),
              most = static_cast<int>(std::floor(std::log10(axis.high)));
    for (int power = least; power <= most; ++power) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double tick = factor * std::pow(10.0, power);
        if (factor > 1 && decades >= 4) continue;
        if (tick >= axis.low * (1 - slack) && tick <= axis.high * (1 + slack)) ticks.push_back(tick);
      }
    }
    return ticks;
  }
  const double rough = (axis.high - axis.low) / 6, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough * 0.8) step = factor * power;
  }
  const double first = std::ceil(axis.low / step - slack), last = std::floor(axis.high / step + slack);
  const int marks = static_cast<int>(last - first) + 1;
  for (int k = 0; k < marks; ++k) ticks.push_back((first + k) * step + 0.0);  // + 0.0: no "-0"
  return ticks;
}

void FitAxis(PlotAxis& axis, const std::vector<Series>& series, double PlotPoint::*coordinate) {
  double low = axis.logarithmic ? 1e300 : 0, high = axis.logarithmic ? 1e-300 : 0;
  for (const Series& s : series) {
    for (const PlotPoint& p : s.points) {
      if (!HasPlace(axis, p.*coordinate)) continue;
      low = std::min(low, p.*coordinate);
      high = std::max(high, p.*coordinate);
    }
  }
  axis.low = axis.logarithmic ? low / 1.5 : low;
  axis.high = axis.logarithmic ? high * 1.5 : std::max(high * 1.05, low + 1e-3);
  if (axis.low >= axis.high) axis.low = 0.5, axis.high = 2;  // nothing to draw
}

Panel PanelByLength(const std::string& title, const std::string& y_label, std::vector<Series> series) {
  Panel panel{.title = title,
              .x = {.label = "sequence length, tokens", .logarithmic = true},
              .y = {.label = y_label, .logarithmic = true},
              .series = std::move(series)};
  FitAxis(panel.x, panel.series, &PlotPoint::x);
  FitAxis(panel.y, panel.series, &PlotPoint::y);
  return panel;
}

std::string SvgMarker(double x, double y, const SeriesStyle& style) { return MarkerAt(x, y, style); }

// Counts characters, not bytes: UTF-8 continuation bytes take no room.
double TextWidth(std::string_view text) {
  const auto glyphs = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return static_cast<double>(glyphs) * kGlyphWidth * kFontSize;
}

std::string SvgFigure(const std::string& title, const std::vector<Panel>& panels) {
  const std::size_t columns = std::min<std::size_t>(panels.size(), 2);
  const double panel_width = kFigureWidth / static_cast<double>(columns), frame_height = columns == 1 ? 390 : 230;
  double height = kTitleHeight;
  std::string body = Text(kLeft, 23, title, "font-weight=\"600\"");
  body += DrawLegend(panels, kFigureWidth, height);
  const bool titled = std::ranges::any_of(panels, [](const Panel& p) { return !p.title.empty(); });
  for (std::size_t i = 0; i < panels.size(); ++i) {
    if (i % columns == 0) height += titled ? kTop : kTopUntitled;
    const double x = panel_width * static_cast<double>(i % columns);
    body += PanelWriter(panels[i], {x + kLeft, height, x + panel_width - kRight, height + frame_height}).Write();
    if (i % columns == columns - 1 || i + 1 == panels.size()) height += frame_height + kBottom;
  }
  return SvgPicture(title, height, body);
}

}  // namespace swarr
