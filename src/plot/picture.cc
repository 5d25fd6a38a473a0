// SPDX-License-Identifier: Apache-2.0
// What every picture is made of: its frame, its colours by day and by night, and text as markup.
#include <array>
#include <iomanip>

#include "base/check.h"
#include "plot/svg.h"

namespace swarr {

std::string DarkColours() {
  static constexpr std::array<std::array<std::string_view, 2>, 10> kDark = {{{colour::kBlue, "#6cb4ee"},
                                                                             {colour::kVermillion, "#ff9a57"},
                                                                             {colour::kPurple, "#dc93c4"},
                                                                             {colour::kGreen, "#4ec9a5"},
                                                                             {colour::kGrey, "#a3a9b0"},
                                                                             {colour::kBlack, "#dfe3e7"},
                                                                             {colour::kGround, "#16191d"},
                                                                             {colour::kTrack, "#2c3138"},
                                                                             {colour::kTick, "#b4bac1"},
                                                                             {colour::kLeader, "#7d848c"}}};
  std::string rules;
  for (const auto& [light, dark] : kDark) {
    for (const char* property : {"fill", "stroke"}) {
      rules += Fill("[@=\"@\"]{@:@}\n", {property, light, property, dark});
    }
  }
  return rules;
}

std::string SvgPicture(const std::string& title, double height, std::string_view body) {
  return Fill(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 @ @\" width=\"@\" height=\"@\" role=\"img\" "
      "aria-label=\"@\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"@\" fill=\"@\">\n"
      "<style>@ {\n@}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"@\"/>\n@</svg>\n",
      {kFigureWidth, height, kFigureWidth, height, EscapeMarkup(title), kFontSize, colour::kBlack,
       "@media screen and (prefers-color-scheme: dark)", DarkColours(), colour::kGround, body});
}

std::string Hover(std::string_view text) { return text.empty() ? "" : Fill("<title>@</title>", {EscapeMarkup(text)}); }

std::string EscapeMarkup(std::string_view text) {
  static constexpr std::string_view kReserved = "&<>\"'";
  static constexpr std::array<std::string_view, kReserved.size()> kEntities = {"&amp;", "&lt;", "&gt;", "&quot;",
                                                                               "&#39;"};
  std::string out;
  for (const char c : text) {
    const std::size_t reserved = kReserved.find(c);
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t';
    out += reserved < kEntities.size() ? kEntities[reserved] : std::string_view(control ? " " : &c, 1);
  }
  return out;
}

MarkupValue::MarkupValue(double coordinate) : text(Concat(std::fixed, std::setprecision(2), coordinate)) {}

std::string Fill(std::string_view pattern, std::initializer_list<MarkupValue> values) {
  std::string out;
  for (const MarkupValue& value : values) {
    const std::size_t at = pattern.find('@');
    out.append(pattern.substr(0, at)).append(value.text);
    pattern.remove_prefix(at + 1);
  }
  return out.append(pattern);
}

}  // namespace swarr
