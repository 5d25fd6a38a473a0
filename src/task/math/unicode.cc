// SPDX-License-Identifier: Apache-2.0
#include "task/math/unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

namespace swarr {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 45> kSpellings = {{
    {"\u2212", "-"},
    {"\u2010", "-"},
    {"\u2011", "-"},
    {"\u2012", "-"},
    {"\u2013", "-"},
    {"\u2014", "-"},
    {"\u00d7", "\\times "},
    {"\u00b7", "\\cdot "},
    {"\u22c5", "\\cdot "},
    {"\u00f7", "\\div "},
    {"\u2044", "/"},
    {"\u2215", "/"},
    {"\u03c0", "\\pi "},
    {"\u221a", "\\sqrt "},
    {"\u00b0", "\\degree "},
    {"\u221e", "\\infty "},
    {"\u2264", "\\le "},
    {"\u2265", "\\ge "},
    {"\u2260", "\\ne "},
    {"\u00b1", "\\pm "},
    {"\u2213", "\\mp "},
    {"\u222a", "\\cup "},
    {"\u2229", "\\cap "},
    {"\u2208", "\\in "},
    {"\u2205", "\\emptyset "},
    {"\u00b2", "^2 "},
    {"\u00b3", "^3 "},
    {"\u00bd", "\\frac{1}{2}"},
    {"\u00bc", "\\frac{1}{4}"},
    {"\u00be", "\\frac{3}{4}"},
    {"\u2153", "\\frac{1}{3}"},
    {"\u2154", "\\frac{2}{3}"},
    {"\u00a0", " "},
    {"\u2009", " "},
    {"\u202f", " "},
    {"\u200a", " "},
    {"\u2002", " "},
    {"\u2003", " "},
    {"\u3000", " "},
    {"\u200b", ""},
    {"\ufeff", ""},
    {"\u03b8", "\\theta "},
    {"\u03b1", "\\alpha "},
    {"\u03b2", "\\beta "},
    {"\u2026", "\\ldots "},
}};

// U+FF01 to U+FF5E are the ASCII characters from '!' to '~' in full width: EF BC 81 to EF BD 9E.
std::optional<char> FullWidth(std::string_view text) {
  if (text.size() < 3 || text[0] != '\xEF' || (text[1] != '\xBC' && text[1] != '\xBD')) return std::nullopt;
  const int last = static_cast<unsigned char>(text[2]);
  const int code = (text[1] == '\xBC' ? 0 : 0x40) + last - 0x80;
  if (last < 0x80 || last > 0xBF || code < 1 || code > 0x5E) return std::nullopt;
  return static_cast<char>('!' + code - 1);
}

}  // namespace

std::string UnicodeToLatex(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i);
    if (static_cast<unsigned char>(rest[0]) < 0x80) {
      result += rest[0];
      ++i;
      continue;
    }
    const auto found = std::find_if(kSpellings.begin(), kSpellings.end(),
                                    [&](const auto& entry) { return rest.starts_with(entry.first); });
    if (found != kSpellings.end()) {
      result += found->second;
      i += found->first.size();
    } else if (const std::optional<char> ascii = FullWidth(rest)) {
      result += *ascii;
      i += 3;
    } else {
      result += rest[0];
      ++i;
    }
  }
  return result;
}

}  // namespace swarr
