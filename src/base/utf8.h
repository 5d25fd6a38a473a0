// SPDX-License-Identifier: Apache-2.0
// UTF-8 (RFC 3629): reading characters, and texts from outside as parts of a sentence.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

namespace swarr {

// What stands at one place of a text that should be UTF-8.
struct Utf8Unit {
  enum class Kind {
    kCharacter,
    kCut,     // the text ends within a character
    kBroken,  // no character begins like this: overlong forms, surrogates, stray bytes
  };
  Kind kind = Kind::kBroken;
  char32_t code = 0;      // of a character
  std::size_t bytes = 0;  // of the character, else of the longest beginning of one, and at least 1
};

// The unit that starts at byte `at` of `text`; needs at < text.size().
inline Utf8Unit UnitAt(std::string_view text, std::size_t at) {
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

// Whether a character begins before this byte.
inline bool ContinuesCharacter(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The text as it can stand in one line of UTF-8. Control characters, which would break the line or steer a terminal,
// are spelt \n or \u001b, and bytes that are no UTF-8 \xff.
inline std::string Printable(std::string_view text) {
  std::string line;
  const auto spell = [&](const char* format, unsigned code) {
    std::array<char, 8> spelt{};
    static_cast<void>(std::snprintf(spelt.data(), spelt.size(), format, code));
    line += spelt.data();
  };
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Unit unit = UnitAt(text, at);
    const bool control = unit.code < 0x20 || (unit.code >= 0x7F && unit.code < 0xA0);
    if (unit.kind != Utf8Unit::Kind::kCharacter) {
      for (std::size_t i = 0; i < unit.bytes; ++i) spell("\\x%02x", static_cast<unsigned char>(text[at + i]));
    } else if (unit.code == '\n') {
      line += "\\n";
    } else if (control) {
      spell("\\u%04x", unit.code);
    } else {
      line += text.substr(at, unit.bytes);
    }
    at += unit.bytes;
  }
  return line;
}

// A name or value from outside as a part of a sentence: Printable, and of a long one the beginning alone.
inline std::string Excerpt(std::string_view text) {
  constexpr std::size_t kMost = 72;
  constexpr std::string_view kDots = "...";
  std::string line = Printable(text.substr(0, 2 * kMost));
  if (text.size() <= 2 * kMost && line.size() <= kMost) return line;
  std::size_t end = std::min(kMost - kDots.size(), line.size());
  while (end > 0 && end < line.size() && ContinuesCharacter(line[end])) --end;
  return line.replace(end, line.npos, kDots);
}

}  // namespace swarr
