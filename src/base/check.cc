// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <array>
#include <cstdio>

namespace swarr {
namespace {

// The characters that a longer sentence keeps: enough for two of the longest paths.
constexpr std::size_t kHead = 9000, kTail = 1000;

bool Continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Leaves out the middle of a sentence that quotes a whole file. It opens with what was wrong and ends with what to do.
std::string Shortened(std::string text) {
  if (text.size() <= kHead + kTail) return text;
  std::size_t head = kHead, tail = text.size() - kTail;
  while (Continues(text[head])) --head;
  while (Continues(text[tail])) ++tail;
  return text.replace(head, tail - head, " ... ");
}

// Spells out control characters, which names in damaged or hostile files may hold: they would break the line, steer the
// terminal or, a zero byte, end what(). In UTF-8, C1 controls are 0xC2 and one more byte.
std::string OnOneLine(const std::string& text) {
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const bool c1 = c == 0xC2 && next >= 0x80 && next < 0xA0;
    if (c == '\n') {
      line += "\\n";
    } else if (c < 0x20 || c == 0x7F || c1) {
      std::array<char, 8> code{};
      static_cast<void>(std::snprintf(code.data(), code.size(), "\\u%04x", c1 ? next : c));
      line += code.data();
      i += c1;
    } else {
      line += text[i];
    }
  }
  return line;
}

}  // namespace

Error::Error(const std::string& sentence) : std::runtime_error(OnOneLine(Shortened(sentence))) {}

}  // namespace swarr
