// SPDX-License-Identifier: Apache-2.0
#include "plot/markup.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace swarr {

std::string EscapeMarkup(std::string_view text) {
  using Entity = std::pair<char, std::string_view>;
  static constexpr std::array<Entity, 5> kEntities = {
      {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}}};
  std::string out;
  for (const char c : text) {
    const auto* entity = std::ranges::find(kEntities, c, &Entity::first);
    const bool control = static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t';
    out += entity != kEntities.end() ? entity->second : std::string_view(control ? " " : &c, 1);
  }
  return out;
}

MarkupValue::MarkupValue(double coordinate) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.2f", coordinate);
  text = buffer.data();
}

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
