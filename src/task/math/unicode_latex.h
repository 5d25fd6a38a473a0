// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// The text with the characters beyond ASCII that have a spelling in LaTeX in that spelling: minus signs and dashes as
// '-', full-width forms and mathematical digits as ASCII, superscripts as ^{...}, fractions as \frac, signs such as the
// square root or pi as commands, an overline on a digit as \overline. Blanks become spaces, and characters that nobody
// sees go. Other characters, and bytes that are no UTF-8, stay as they are. Takes linear time.
std::string UnicodeToLatex(std::string_view text);

}  // namespace swarr
