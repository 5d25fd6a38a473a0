// SPDX-License-Identifier: Apache-2.0
// Shares in [0, 1] as horizontal bars: a row for each thing that is compared, a column for each of its shares.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace swarr {

struct Bar {
  double share = 0;             // not finite: nothing is drawn, and a dash written
  std::vector<double> marks{};  // points on the bar, as of the seeds that the share is the mean of
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
