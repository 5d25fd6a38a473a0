// SPDX-License-Identifier: Apache-2.0
// Parts of a page of HTML. Texts are escaped; what is called markup is not.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace swarr {

// A part of a page that its contents name; it is left out where it has no markup.
struct PageSection {
  std::string id, title, markup;
};

// A whole page: its title as a heading, what opens it, the contents, the sections. It needs no network and no script,
// follows the reader's preference for dark or light, and prints. `generator` says in its head what wrote it.
std::string HtmlPage(std::string_view title, std::string_view generator, std::string_view opening_markup,
                     const std::vector<PageSection>& sections);
// What the head of a page of this generator has.
std::string GeneratorMark(std::string_view generator);

std::string Tag(std::string_view name, std::string_view text);

std::string HtmlLink(std::string_view address, std::string_view text);

std::string HtmlList(const std::vector<std::string>& items);

// Rows of a name and a value.
std::string HtmlPairs(const std::vector<std::pair<std::string, std::string>>& pairs);

// A table whose first row has the heads. `cell` gives the markup of a cell.
using CellMarkup = std::function<std::string(std::size_t row, std::size_t column, const std::string& text)>;
std::string HtmlTable(const std::vector<std::vector<std::string>>& table, const CellMarkup& cell);

// A picture that scrolls within itself where it does not fit, with what is said of it.
std::string HtmlFigure(std::string_view svg, std::string_view caption);

}  // namespace swarr
