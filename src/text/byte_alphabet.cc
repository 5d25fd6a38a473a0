// SPDX-License-Identifier: Apache-2.0
#include "text/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace swarr {
namespace {

constexpr int kNoByte = -1;

// The byte of each letter, by the letter's code.
constexpr std::array<std::int16_t, 0x144> kByteOfLetter = [] {
  std::array<std::int16_t, 0x144> bytes{};
  bytes.fill(kNoByte);
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 0x100; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    bytes[printable ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}();

}  // namespace

std::optional<std::string> BytesOfLetters(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Unit letter = UnitAt(token, at);
    const bool known = letter.kind == Utf8Unit::Kind::kCharacter && letter.code < kByteOfLetter.size() &&
                       kByteOfLetter[letter.code] != kNoByte;
    if (!known) return std::nullopt;
    bytes += static_cast<char>(kByteOfLetter[letter.code]);
    at += letter.bytes;
  }
  return bytes;
}

}  // namespace swarr
