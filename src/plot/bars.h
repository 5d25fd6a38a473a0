// SPDX-License-Identifier: Apache-2.0
// Shares in [0, 1] as horizontal bars: a row for each thing that is compared, a column for each of its shares.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace swarr {

// A point on a bar, as of one of the seeds that the bar is the mean of.
struct BarMark {
  double share = 0;
  std::string hover{};  // what a pointer over it shows
};

struct Bar {
  double share = 0;  // not finite: nothing is drawn, and a dash written
  std::vector<BarMark> marks{};
  std::string hover{};
};

struct BarRow {
  std::string name;
  std::string_view colour;
  std::vector<Bar> bars;  // by column
};

// As SVG text. Throws Error unless every row has a bar for every column.
std::string BarFigure(const std::string& title, const std::vector<std::string>& columns,
                      const std::vector<BarRow>& rows);

}  // namespace swarr
