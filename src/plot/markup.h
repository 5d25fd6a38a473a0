// SPDX-License-Identifier: Apache-2.0
// Text of SVG and HTML.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>

namespace swarr {

// Text with the five characters that XML and HTML reserve replaced by entities, and control characters, which XML
// forbids, by spaces.
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
