// SPDX-License-Identifier: Apache-2.0
#include "page/html.h"

#include "base/check.h"
#include "page/style.h"
#include "plot/svg.h"

namespace swarr {

std::string GeneratorMark(std::string_view generator) {
  return Fill("<meta name=\"generator\" content=\"@\">\n", {generator});
}

std::string HtmlPage(std::string_view title, std::string_view generator, std::string_view opening_markup,
                     const std::vector<PageSection>& sections) {
  std::string contents, body;
  for (const auto& [id, name, markup] : sections) {
    if (markup.empty()) continue;
    contents += HtmlLink(Concat('#', id), name) + '\n';
    body += Fill("<section id=\"@\">\n@@</section>\n", {id, Tag("h2", name), markup});
  }
  return Concat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n", GeneratorMark(generator),
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n", Tag("title", title),
                "<style>\n", kPageStyle, "@media screen and (prefers-color-scheme: dark) {\n", DarkColours(),
                "}\n</style>\n</head>\n<body>\n", Tag("h1", title), opening_markup, "<nav>", contents, "</nav>\n", body,
                "</body>\n</html>\n");
}

std::string Tag(std::string_view name, std::string_view text) {
  return Fill("<@>@</@>\n", {name, EscapeMarkup(text), name});
}

std::string HtmlLink(std::string_view address, std::string_view text) {
  return Fill("<a href=\"@\">@</a>", {EscapeMarkup(address), EscapeMarkup(text)});
}

std::string HtmlList(const std::vector<std::string>& items) {
  std::string out = "<ul>\n";
  for (const std::string& item : items) out += Tag("li", item);
  return out + "</ul>\n";
}

std::string HtmlPairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string rows;
  for (const auto& [name, value] : pairs) {
    rows += Fill("<tr><td>@</td><td>@</td></tr>\n", {EscapeMarkup(name), EscapeMarkup(value)});
  }
  return Fill("<table class=\"pairs\"><tbody>\n@</tbody></table>\n", {rows});
}

std::string HtmlTable(const std::vector<std::vector<std::string>>& table, const CellMarkup& cell) {
  std::string head, rows;
  for (const std::string& text : table[0]) head += Fill("<th>@</th>", {EscapeMarkup(text)});
  for (std::size_t row = 1; row < table.size(); ++row) {
    rows += "<tr>";
    for (std::size_t c = 0; c < table[row].size(); ++c) rows += Fill("<td>@</td>", {cell(row, c, table[row][c])});
    rows += "</tr>\n";
  }
  return Fill("<div class=\"scroll\"><table>\n<thead><tr>@</tr></thead>\n<tbody>\n@</tbody></table></div>\n",
              {head, rows});
}

std::string HtmlFigure(std::string_view svg, std::string_view caption) {
  return Fill("<figure>\n<div class=\"scroll\">@</div>\n@</figure>\n",
              {svg, caption.empty() ? "" : Tag("figcaption", caption)});
}

}  // namespace swarr
