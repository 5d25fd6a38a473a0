// SPDX-License-Identifier: Apache-2.0
// The alphabet of byte-level BPE (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section
// 2.2): a letter for each byte, so that tokens, which are strings of bytes, can be written in JSON. The printable bytes
// 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF are the characters of the same number, the other 68 are U+0100 to U+0143 in order.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace swarr {

// The bytes that the letters of `token` stand for, or nothing if a character of it is no letter of the alphabet.
std::optional<std::string> BytesOfLetters(std::string_view token);

}  // namespace swarr
