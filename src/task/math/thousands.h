// SPDX-License-Identifier: Apache-2.0
// What stands between groups of three digits: 12 345, 12{,}345.
#pragma once

#include <array>
#include <string_view>

#include "task/math/words.h"

namespace swarr {

// Besides the plain comma, which may separate numbers too. Blanks of Unicode are spaces by then (unicode_latex.h).
constexpr std::array<std::string_view, 8> kThousandsSeparators = {"{,}", ",\\!", ",\\,", " ", "\\,", "\\ ", "~", "\\!"};

// Whether `text` begins with `separator` and exactly three digits.
constexpr bool BeginsWithThousands(std::string_view text, std::string_view separator) {
  if (!text.starts_with(separator)) return false;
  text.remove_prefix(separator.size());
  return text.size() >= 3 && IsDigit(text[0]) && IsDigit(text[1]) && IsDigit(text[2]) &&
         (text.size() == 3 || !IsDigit(text[3]));
}

}  // namespace swarr
