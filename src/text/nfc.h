// SPDX-License-Identifier: Apache-2.0
// Unicode's normalisation form C (Unicode Standard Annex #15), by utf8proc's tables.
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// Whether this build has PCRE2 and utf8proc, on which regexes and NFC stand (CMake's SWARR_UNICODE).
bool HasUnicodeLibraries();

// Throws, naming the packages, unless HasUnicodeLibraries(); `what` needs them.
void NeedUnicodeLibraries(const std::string& what);

// `text`, which must be UTF-8, in NFC: letters and their marks composed where Unicode has the composed character.
// Takes O(n log n) time on any text.
std::string ToNfc(std::string_view text);

}  // namespace swarr
