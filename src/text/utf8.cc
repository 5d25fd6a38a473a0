// SPDX-License-Identifier: Apache-2.0
#include "text/utf8.h"

#include <array>
#include <cstdio>
#include <utility>

#include "tensor/check.h"

namespace swarr {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

Utf8Unit UnitAt(std::string_view text, std::size_t at) {
  using enum Utf8Unit::Kind;
  const unsigned lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {kCharacter, lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {kBroken, 0, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  // The second byte rules out overlong forms, surrogates and codes beyond U+10FFFF.
  const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if (at + i == text.size()) return {kCut, 0, i};
    const unsigned byte = static_cast<unsigned char>(text[at + i]);
    const bool fits = i == 1 ? byte >= least && byte <= most : (byte & 0xC0) == 0x80;
    if (!fits) return {kBroken, 0, i};
    code = code << 6 | (byte & 0x3Fu);
  }
  return {kCharacter, code, bytes};
}

void CheckUtf8(std::string_view text, const std::string& where) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = UnitAt(text, at);
    SWARR_CHECK(unit.kind == Utf8Unit::Kind::kCharacter, where, ": the text is no UTF-8 at byte ", at);
    at += unit.bytes;
  }
}

std::string DescribeCharacter(std::string_view text, std::size_t at) {
  const Utf8Unit c = UnitAt(text, at);
  std::array<char, 16> number{};
  static_cast<void>(std::snprintf(number.data(), number.size(), "U+%04X", static_cast<unsigned>(c.code)));
  const bool control = c.code < 0x20 || (c.code >= 0x7F && c.code < 0xA0);
  return control ? number.data() : Concat("'", text.substr(at, c.bytes), "' (", number.data(), ")");
}

std::string Utf8Joiner::Add(std::string_view bytes) {
  held_ += bytes;
  std::string text;
  std::size_t at = 0;
  while (at < held_.size()) {
    const Utf8Unit unit = UnitAt(held_, at);
    if (unit.kind == Utf8Unit::Kind::kCut) break;
    text += unit.kind == Utf8Unit::Kind::kCharacter ? std::string_view(held_).substr(at, unit.bytes) : kReplacement;
    at += unit.bytes;
  }
  held_.erase(0, at);
  return text;
}

std::string Utf8Joiner::Finish() {
  return std::exchange(held_, {}).empty() ? std::string() : std::string(kReplacement);
}

}  // namespace swarr
