// SPDX-License-Identifier: Apache-2.0
// Checking UTF-8, and turning bytes that arrive in pieces into text. Unicode's normalisation form C (Unicode Standard
// Annex #15), by utf8proc's tables.
#pragma once

#include <string>
#include <string_view>

#include "base/utf8.h"

namespace swarr {

// Throws unless `text` is UTF-8, naming the first byte that is not; `where` opens the sentence.
void CheckUtf8(std::string_view text, const std::string& where);

// "'z' (U+007A)", control characters without the quotes: the character at byte `at` of a valid text.
std::string DescribeCharacter(std::string_view text, std::size_t at);

// Text from bytes that arrive in pieces. What comes out is UTF-8 at every moment: the beginning of a character is held
// back until its rest arrives. A beginning that does not go on becomes one U+FFFD, as the Unicode standard recommends
// (section 3.9) and as Python and Rust do it.
class Utf8Joiner {
 public:
  // The text that is certain now and was not before.
  std::string Add(std::string_view bytes);
  // The rest: nothing, or U+FFFD for a character that was cut.
  std::string Finish();

 private:
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
  std::string held_;
};

// Whether this build has PCRE2 and utf8proc, on which regexes and NFC stand (CMake's SWARR_UNICODE).
bool HasUnicodeLibraries();

// Throws, naming the packages, unless HasUnicodeLibraries(); `what` needs them.
void NeedUnicodeLibraries(const std::string& what);

// `text`, which must be UTF-8, in NFC: letters and their marks composed where Unicode has the composed character.
// Takes O(n log n) time on any text.
std::string ToNfc(std::string_view text);

}  // namespace swarr
