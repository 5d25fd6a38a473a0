// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "plot/bars.h"
#include "plot/svg.h"

using namespace swarr;

TEST_CASE("the corners of the axes are the corners of the frame") {
  Panel panel{.x = {.label = "x", .low = 1, .high = 100, .logarithmic = true},
              .y = {.label = "y", .low = 0, .high = 2},
              .series = {{.points = {{1, 0}, {10, 1}, {100, 2}, {-1, 1}}, .style = {.marker = Marker::kCircle}}}};
  const std::string svg = SvgFigure("t", {panel});
  std::vector<std::pair<double, double>> centres;
  for (std::size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) {
    double x = 0, y = 0;
    REQUIRE(std::sscanf(svg.c_str() + at, "<circle cx=\"%lf\" cy=\"%lf\"", &x, &y) == 2);
    centres.emplace_back(x, y);
  }
  REQUIRE(centres.size() == 3);  // a logarithmic axis has no place for -1
  CHECK(centres[0].first < centres[2].first);
  CHECK(centres[0].second > centres[2].second);  // y grows upwards
  // Coordinates are written with two decimals.
  CHECK(std::abs(centres[1].first - (centres[0].first + centres[2].first) / 2) <= 0.011);
  CHECK(std::abs(centres[1].second - (centres[0].second + centres[2].second) / 2) <= 0.011);
  panel.y.high = 0;
  CHECK_THROWS_AS(SvgFigure("t", {panel}), Error);
}

TEST_CASE("a label keeps clear of points and stays inside the frame") {
  // The point sits in the right corner with another on its left: the label must go elsewhere.
  Panel panel{.x = {.label = "x", .low = 0, .high = 1}, .y = {.label = "y", .low = 0, .high = 1}};
  Series labelled, other;
  labelled.label = "a rather long label";
  labelled.points = {{1, 0.5}};
  labelled.style.marker = other.style.marker = Marker::kCircle;
  for (int i = 0; i < 10; ++i) other.points.push_back({0.95 - 0.03 * i, 0.5});
  panel.series = {labelled, other};
  const std::string svg = SvgFigure("t", {panel});
  const std::size_t text = svg.rfind("<text", svg.find(labelled.label));
  double x = 0, y = 0;
  REQUIRE(std::sscanf(svg.c_str() + text, "<text x=\"%lf\" y=\"%lf\"", &x, &y) == 2);
  double cx = 0, cy = 0;
  REQUIRE(std::sscanf(svg.c_str() + svg.rfind("<circle"), "<circle cx=\"%lf\" cy=\"%lf\"", &cx, &cy) == 2);
  CHECK(x + 19 * 7 < cx + 1);              // 19 letters of at least 7 pixels end at the frame, where the point is
  CHECK((y < cy - 5 || y - 10 > cy + 5));  // above or below the row of markers, of radius 5
}

TEST_CASE("ticks are round, inside the axis and few") {
  const auto ticks = [](double low, double high, bool logarithmic = false) {
    return AxisTicks({.low = low, .high = high, .logarithmic = logarithmic});
  };
  CHECK(ticks(0, 1).size() == 6);  // 0, 0.2, .. 1
  CHECK(ticks(4, 16) == std::vector<double>{4, 6, 8, 10, 12, 14, 16});
  CHECK(ticks(1, 100, true) == std::vector<double>{1, 2, 5, 10, 20, 50, 100});
  CHECK(ticks(1, 1e6, true).size() == 7);
  CHECK(!std::signbit(ticks(-0.03, 1)[0]));
}

TEST_CASE("a head that its column is too narrow for ends at the figure's edge, not behind it") {
  const std::vector<std::string> columns = {"placement", "competence, accuracy in reach"};
  const auto figure = [&](const std::string& name) {
    return BarFigure("t", columns, {{name, colour::kBlue, {{.share = 0.5}, {.share = 0.5}}}});
  };
  const auto ends_at_edge = [&](const std::string& svg) {
    return svg.find(Fill("<text x=\"@\" y=\"48.00\" text-anchor=\"end\" font-weight=\"600\">competence",
                         {static_cast<double>(kFigureWidth)})) != std::string::npos;
  };
  CHECK(!ends_at_edge(figure("short")));
  CHECK(ends_at_edge(figure("a way whose name is as long as some of those of studies, share 0.05")));
}
