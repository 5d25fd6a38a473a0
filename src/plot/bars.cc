// SPDX-License-Identifier: Apache-2.0
#include "plot/bars.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "base/check.h"
#include "plot/svg.h"

namespace swarr {
namespace {

// All in pixels.
constexpr double kLeastNames = 110, kFirstRow = 62, kRowHeight = 24, kBarHeight = 12, kFoot = 22;
constexpr double kNumberWidth = 56;  // right of a bar's track, where its number stands
constexpr double kBoldWidth = 1.1;   // of a bold text, where that of a plain one is 1

std::string Written(double x, double y, const std::string& text, std::string_view anchor, std::string_view more = "") {
  return Fill("<text x=\"@\" y=\"@\" text-anchor=\"@\"@>@</text>\n", {x, y, anchor, more, EscapeMarkup(text)});
}

std::string Rectangle(double x, double y, double width, std::string_view colour, std::string_view hover) {
  return Fill("<rect x=\"@\" y=\"@\" width=\"@\" height=\"@\" fill=\"@\">@</rect>\n",
              {x, y, width, kBarHeight, colour, Hover(hover)});
}

// The bar on its track, which begins at x and is `length` long.
std::string DrawBar(const Bar& bar, double x, double y, double length, std::string_view colour) {
  std::string out = Rectangle(x, y, length, colour::kTrack, bar.hover);
  const bool drawn = std::isfinite(bar.share);
  if (drawn) out += Rectangle(x, y, length * std::clamp(bar.share, 0.0, 1.0), colour, bar.hover);
  for (const BarMark& mark : bar.marks) {
    if (!std::isfinite(mark.share)) continue;
    out += Fill("<circle cx=\"@\" cy=\"@\" r=\"3.2\" fill=\"@\" stroke=\"@\" stroke-width=\"1.2\">@</circle>\n",
                {x + length * std::clamp(mark.share, 0.0, 1.0), y + kBarHeight / 2, colour::kGround, colour::kBlack,
                 Hover(mark.hover)});
  }
  return out + Written(x + length + kNumberWidth - 10, y + kBarHeight - 1.5,
                       drawn ? Concat(std::fixed, std::setprecision(3), bar.share) : "-", "end");
}

}  // namespace

std::string BarFigure(const std::string& title, const std::vector<std::string>& columns,
                      const std::vector<BarRow>& rows) {
  double name_width = kLeastNames;  // of the column of names, its margins included
  for (const BarRow& row : rows) name_width = std::max(name_width, TextWidth(row.name) + 22);
  const double column = (kFigureWidth - name_width) / static_cast<double>(columns.size()),
               length = column - kNumberWidth;
  const auto column_at = [&](std::size_t i) { return name_width + column * static_cast<double>(i); };
  std::string body = Written(14, 23, title, "start", " font-weight=\"600\"");
  for (std::size_t i = 0; i < columns.size(); ++i) {
    // Long names of rows leave little room: a head that does not fit ends where its column does.
    const bool fits = kBoldWidth * TextWidth(columns[i]) <= column;
    body += Written(fits ? column_at(i) : column_at(i + 1), kFirstRow - 14, columns[i], fits ? "start" : "end",
                    " font-weight=\"600\"");
  }
  double y = kFirstRow;
  for (const BarRow& row : rows) {
    SWARR_CHECK(row.bars.size() == columns.size(), "the row '", row.name, "' of a figure has ", row.bars.size(),
                " bars for ", columns.size(), " columns; give one for each");
    body += Written(name_width - 12, y + kBarHeight - 1.5, row.name, "end");
    for (std::size_t i = 0; i < columns.size(); ++i) body += DrawBar(row.bars[i], column_at(i), y, length, row.colour);
    y += kRowHeight;
  }
  for (std::size_t i = 0; i < columns.size(); ++i) {
    for (const auto& [share, label] : {std::pair(0.0, "0"), std::pair(0.5, "0.5"), std::pair(1.0, "1")}) {
      body += Written(column_at(i) + share * length, y + 12, label, "middle", Fill(" fill=\"@\"", {colour::kTick}));
    }
  }
  return SvgPicture(title, y + kFoot, body);
}

}  // namespace swarr
