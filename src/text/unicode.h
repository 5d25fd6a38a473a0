// SPDX-License-Identifier: Apache-2.0
// UTF-8 (RFC 3629): reading characters, and turning bytes that arrive in pieces into text. Unicode's normalisation form
// C (Unicode Standard Annex #15), by utf8proc's tables.
#pragma once

#include <cstddef>
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
Utf8Unit UnitAt(std::string_view text, std::size_t at);

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
