// SPDX-License-Identifier: Apache-2.0
#include "study/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <set>

#include "tensor/check.h"

namespace swarr {
namespace {

// All in pixels. Text widths are estimates: no font is at hand when the file is written, and viewers differ.
constexpr double kFontSize = 13, kSmallFont = 12;
constexpr double kGlyphWidth = 0.56;  // of the font size; a little above the mean of common sans-serif faces
constexpr double kMarkerRadius = 5;
constexpr double kLeft = 62, kRight = 18, kTop = 34, kTopUntitled = 12,
                 kBottom = 52;  // margins of a panel around its frame
constexpr double kTitleHeight = 34, kLegendRow = 22;
constexpr double kDashOn = 6, kDashOff = 4;

struct Box {
  double x0, y0, x1, y1;
  double Overlap(const Box& o) const {
    const double w = std::min(x1, o.x1) - std::max(x0, o.x0), h = std::min(y1, o.y1) - std::max(y0, o.y0);
    return w > 0 && h > 0 ? w * h : 0;
  }
  Box Grown(double by) const { return {x0 - by, y0 - by, x1 + by, y1 + by}; }
};

std::string Fixed(double value) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.2f", value);
  return buffer.data();
}

std::string TickText(double value) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), std::abs(value) < 1e6 ? "%.6g" : "%.1e", value);
  return buffer.data();
}

// Counts characters, not bytes: UTF-8 continuation bytes take no room.
double TextWidth(std::string_view text, double size) {
  const auto glyphs = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return static_cast<double>(glyphs) * kGlyphWidth * size;
}

std::string Text(double x, double y, std::string_view text, std::string_view attributes = "") {
  return Concat("<text x=\"", Fixed(x), "\" y=\"", Fixed(y), "\" ", attributes, ">", EscapeMarkup(text), "</text>\n");
}

std::string Line(double x0, double y0, double x1, double y1, std::string_view stroke, double width) {
  return Concat("<line x1=\"", Fixed(x0), "\" y1=\"", Fixed(y0), "\" x2=\"", Fixed(x1), "\" y2=\"", Fixed(y1),
                "\" stroke=\"", stroke, "\" stroke-width=\"", width, "\"/>\n");
}

std::string MarkerAt(double x, double y, const SeriesStyle& style) {
  const std::string paint = Concat(" fill=\"", style.filled ? style.colour : "#ffffff", "\" stroke=\"", style.colour,
                                   "\" stroke-width=\"2\"/>\n");
  const double r = kMarkerRadius;
  const auto polygon = [&](const std::vector<std::array<double, 2>>& corners) {
    std::string points;
    for (const auto& [dx, dy] : corners) points += Fixed(x + dx * r) + "," + Fixed(y + dy * r) + " ";
    points.pop_back();
    return Concat("<polygon points=\"", points, "\"", paint);
  };
  switch (style.marker) {
    case Marker::kCircle:
      return Concat("<circle cx=\"", Fixed(x), "\" cy=\"", Fixed(y), "\" r=\"", Fixed(r), "\"", paint);
    case Marker::kSquare:
      return polygon({{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}});
    case Marker::kTriangle:
      return polygon({{0, -1.15}, {1.1, 0.85}, {-1.1, 0.85}});
    case Marker::kDiamond:
      return polygon({{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}});
    case Marker::kNone:
      break;
  }
  return "";
}

std::string PolyLine(const std::vector<std::array<double, 2>>& points, const SeriesStyle& style) {
  if (points.size() < 2) return "";
  std::string text;
  for (const auto& [x, y] : points) text += Fixed(x) + "," + Fixed(y) + " ";
  text.pop_back();
  const std::string dash = style.dashed ? Concat(" stroke-dasharray=\"", kDashOn, " ", kDashOff, "\"") : std::string();
  return Concat("<polyline points=\"", text, "\" fill=\"none\" stroke=\"", style.colour,
                "\" stroke-width=\"2\" stroke-linejoin=\"round\"", dash, "/>\n");
}

// Maps data to pixels inside one panel's frame.
class Mapping {
 public:
  Mapping(const Panel& panel, const Box& frame) : panel_(panel), frame_(frame) {}
  double X(double x) const { return frame_.x0 + Share(panel_.x, x) * (frame_.x1 - frame_.x0); }
  double Y(double y) const { return frame_.y1 - Share(panel_.y, y) * (frame_.y1 - frame_.y0); }
  bool Drawable(const PlotPoint& p) const {
    return std::isfinite(p.x) && std::isfinite(p.y) && (!panel_.x.logarithmic || p.x > 0) &&
           (!panel_.y.logarithmic || p.y > 0);
  }

 private:
  static double Share(const PlotAxis& axis, double value) {
    const double share = axis.logarithmic ? std::log(value / axis.low) / std::log(axis.high / axis.low)
                                          : (value - axis.low) / (axis.high - axis.low);
    return std::clamp(share, 0.0, 1.0);  // what lies outside is drawn on the frame
  }
  const Panel& panel_;
  const Box frame_;
};

std::string Axes(const Panel& panel, const Box& f, const Mapping& map) {
  std::string out;
  const std::string small = Concat("font-size=\"", kSmallFont, "\" fill=\"#444444\" ");
  for (const double tick : AxisTicks(panel.x)) {
    out += Line(map.X(tick), f.y0, map.X(tick), f.y1, "#ececec", 1);
    out += Text(map.X(tick), f.y1 + 17, TickText(tick), small + "text-anchor=\"middle\"");
  }
  for (const double tick : AxisTicks(panel.y)) {
    out += Line(f.x0, map.Y(tick), f.x1, map.Y(tick), "#ececec", 1);
    out += Text(f.x0 - 7, map.Y(tick) + 4, TickText(tick), small + "text-anchor=\"end\"");
  }
  out += Line(f.x0, f.y1, f.x1, f.y1, "#444444", 1) + Line(f.x0, f.y0, f.x0, f.y1, "#444444", 1);
  out += Text((f.x0 + f.x1) / 2, f.y1 + 39, panel.x.label, "text-anchor=\"middle\"");
  const double x = f.x0 - kLeft + 16, y = (f.y0 + f.y1) / 2;
  out += Text(x, y, panel.y.label,
              Concat("text-anchor=\"middle\" transform=\"rotate(-90 ", Fixed(x), " ", Fixed(y), ")\""));
  if (!panel.title.empty()) out += Text(f.x0, f.y0 - 11, panel.title, "font-weight=\"600\"");
  return out;
}

// Draws one series and notes what a label must not cover.
std::string DrawSeries(const Series& series, const Mapping& map, std::vector<Box>& obstacles) {
  std::string out;
  if (series.style.line) {
    std::vector<std::array<double, 2>> run;
    for (const PlotPoint& p : series.points) {
      if (!map.Drawable(p)) {
        out += PolyLine(run, series.style);
        run.clear();
        continue;
      }
      const std::array<double, 2> q = {map.X(p.x), map.Y(p.y)};
      if (!run.empty()) {
        const double length = std::hypot(q[0] - run.back()[0], q[1] - run.back()[1]);
        for (double t = 0; t <= length; t += 4) {
          const double x = run.back()[0] + t / length * (q[0] - run.back()[0]);
          const double y = run.back()[1] + t / length * (q[1] - run.back()[1]);
          obstacles.push_back(Box{x, y, x, y}.Grown(2));
        }
      }
      run.push_back(q);
    }
    out += PolyLine(run, series.style);
  }
  for (const PlotPoint& p : series.points) {
    if (!map.Drawable(p)) continue;
    const double x = map.X(p.x), y = map.Y(p.y);
    if (p.interval && std::isfinite(p.interval->low) && std::isfinite(p.interval->high)) {
      const double top = map.Y(p.interval->high), bottom = map.Y(p.interval->low);
      out += Line(x, top, x, bottom, series.style.colour, 1.5);
      obstacles.push_back(Box{x, top, x, bottom}.Grown(2));
    }
    if (series.style.marker != Marker::kNone) {
      out += MarkerAt(x, y, series.style);
      obstacles.push_back(Box{x, y, x, y}.Grown(kMarkerRadius + 2));
    }
  }
  return out;
}

struct LabelPlace {
  Box box{};
  double x = 0, y = 0;  // of the point
  double distance = 0;
  double cost = 1e300;
};

// Tries sixteen directions at four distances around the point (x, y) and takes the place that covers least of the
// obstacles, nearer and more level places first.
LabelPlace PlaceLabel(double x, double y, double w, double h, const Box& frame, const std::vector<Box>& obstacles) {
  LabelPlace best;
  for (const double distance : {11.0, 19.0, 32.0, 52.0}) {
    for (int k = 0; k < 16; ++k) {
      const double angle = std::numbers::pi / 8 * k, dx = std::cos(angle), dy = std::sin(angle);
      // The label's nearest edge, not its middle, is `distance` away.
      const double cx = x + dx * (distance + w / 2), cy = y + dy * (distance + h / 2);
      const Box box{cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
      double cost = 1.5 * distance + 6 * std::abs(dy);
      for (const Box& o : obstacles) cost += 10 * box.Grown(1).Overlap(o);
      cost += 1000 * (w * h - box.Overlap(frame));
      if (cost < best.cost) best = {box, x, y, distance, cost};
    }
  }
  // The last resort for a label that fits nowhere.
  const double right = std::min(0.0, frame.x1 - best.box.x1) + std::max(0.0, frame.x0 - best.box.x0);
  const double down = std::min(0.0, frame.y1 - best.box.y1) + std::max(0.0, frame.y0 - best.box.y0);
  best.box = {best.box.x0 + right, best.box.y0 + down, best.box.x1 + right, best.box.y1 + down};
  return best;
}

// Labels placed become obstacles themselves.
std::string DrawLabel(const Series& series, const Box& frame, const Mapping& map, std::vector<Box>& obstacles) {
  if (series.label.empty()) return "";
  const double w = TextWidth(series.label, kFontSize), h = kFontSize;
  LabelPlace best;
  for (std::size_t i = 0; i < series.points.size(); ++i) {
    const PlotPoint& point = series.points[i];
    if (series.label_at.value_or(i) != i || !map.Drawable(point)) continue;
    const LabelPlace place = PlaceLabel(map.X(point.x), map.Y(point.y), w, h, frame, obstacles);
    if (place.cost < best.cost) best = place;
  }
  if (best.distance == 0) return "";  // no point to stand beside
  std::string out;
  const Box& box = best.box;
  if (best.distance > 20) {
    out += Line(best.x, best.y, std::clamp(best.x, box.x0, box.x1), std::clamp(best.y, box.y0, box.y1), "#999999", 0.8);
  }
  obstacles.push_back(box.Grown(2));
  // A white outline keeps the text legible where it must cross a grid line.
  return out + Text(box.x0, box.y1 - 0.18 * h, series.label,
                    Concat("fill=\"", series.style.colour,
                           "\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\""));
}

std::string DrawPanel(const Panel& panel, const Box& frame) {
  for (const PlotAxis* axis : {&panel.x, &panel.y}) {
    SWARR_CHECK(axis->low < axis->high && (!axis->logarithmic || axis->low > 0), "the axis '", axis->label,
                "' has the empty range ", axis->low, " to ", axis->high, "; give low < high, above 0 if logarithmic");
  }
  const Mapping map(panel, frame);
  std::string out = Axes(panel, frame, map);
  std::vector<Box> obstacles;
  for (const Series& series : panel.series) out += DrawSeries(series, map, obstacles);
  for (const Series& series : panel.series) out += DrawLabel(series, frame, map, obstacles);
  return out;
}

// The legend's entries in rows that fit `width`; `height` grows by what they take.
std::string DrawLegend(const std::vector<Panel>& panels, double width, double& height) {
  std::set<std::string> seen;
  std::string out;
  double x = kLeft;
  const double swatch = 30, gap = 22;
  for (const Panel& panel : panels) {
    for (const Series& series : panel.series) {
      if (series.legend.empty() || !seen.insert(series.legend).second) continue;
      const double entry = swatch + TextWidth(series.legend, kFontSize);
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

std::string EscapeMarkup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  }
  return out;
}

std::vector<double> AxisTicks(const PlotAxis& axis) {
  std::vector<double> ticks;
  const double slack = 1e-9;  // a limit that is a mark up to rounding keeps it
  if (axis.logarithmic) {
    const double decades = std::log10(axis.high / axis.low);
    for (double power = std::floor(std::log10(axis.low)); power <= std::log10(axis.high); ++power) {
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
  for (double k = first; k <= last; ++k) ticks.push_back(k * step + 0.0);  // + 0.0: no "-0"
  return ticks;
}

std::string SvgFigure(const std::string& title, const std::vector<Panel>& panels) {
  const bool single = panels.size() == 1;
  const double panel_width = single ? 780 : 440, frame_height = single ? 400 : 260;
  const double width = panel_width * static_cast<double>(panels.size());
  double height = kTitleHeight;
  std::string body = Text(kLeft, 23, title, "font-size=\"15\" font-weight=\"600\"");
  body += DrawLegend(panels, width, height);
  height +=
      std::all_of(panels.begin(), panels.end(), [](const Panel& p) { return p.title.empty(); }) ? kTopUntitled : kTop;
  for (std::size_t i = 0; i < panels.size(); ++i) {
    const double x = panel_width * static_cast<double>(i);
    body += DrawPanel(panels[i], {x + kLeft, height, x + panel_width - kRight, height + frame_height});
  }
  height += frame_height + kBottom;
  return Concat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Fixed(width), " ", Fixed(height),
                "\" width=\"", Fixed(width), "\" height=\"", Fixed(height), "\" role=\"img\" aria-label=\"",
                EscapeMarkup(title), "\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"", kFontSize,
                "\" fill=\"", colour::kBlack, "\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n", body,
                "</svg>\n");
}

}  // namespace swarr
