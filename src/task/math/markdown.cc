// SPDX-License-Identifier: Apache-2.0
#include "task/math/markdown.h"

#include <algorithm>
#include <array>
#include <utility>

#include "task/math/words.h"

namespace swarr {
namespace {

// Marks of Markdown and quotation marks in pairs.
constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kQuotes = {{{"***", "***"},
                                                                                    {"**", "**"},
                                                                                    {"__", "__"},
                                                                                    {"*", "*"},
                                                                                    {"_", "_"},
                                                                                    {"```", "```"},
                                                                                    {"`", "`"},
                                                                                    {"\"", "\""},
                                                                                    {"'", "'"},
                                                                                    {"\u201c", "\u201d"},
                                                                                    {"\u2018", "\u2019"},
                                                                                    {"\u00ab", "\u00bb"}}};

// Takes a pair of marks away that encloses all of `text` or its first words: **5**, **5** apples. Returns whether there
// was one.
bool Unquote(std::string& text) {
  for (const auto& [open, close] : kQuotes) {
    const std::size_t end = text.find(close, open.size());
    if (!text.starts_with(open) || end == std::string::npos || end == open.size()) continue;
    const std::string rest = text.substr(end + close.size());
    const bool ends = rest.empty() || std::string_view(" .,;:").find(rest[0]) != std::string_view::npos;
    if (!ends || rest.find(open) != std::string::npos) continue;
    text = TrimSpace(text.substr(open.size(), end - open.size()) + rest);
    return true;
  }
  return false;
}

}  // namespace

std::string WithoutMarkdown(std::string_view answer) {
  constexpr std::string_view kBold = "**";
  constexpr int kMostMarks = 8;
  std::string text(TrimSpace(answer));
  const std::size_t heading = std::min(text.find_first_not_of('#'), text.size());
  if (heading > 0 && text.substr(heading, 1) == " ") text = TrimSpace(text.substr(heading));
  const bool only_closed = text.size() > kBold.size() && text.find(kBold) == text.size() - kBold.size();
  if (only_closed) text.resize(text.size() - kBold.size());
  for (int i = 0; i < kMostMarks && Unquote(text); ++i) {
  }
  return text;
}

}  // namespace swarr
