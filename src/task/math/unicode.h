// SPDX-License-Identifier: Apache-2.0
// Mathematical characters beyond ASCII in the spelling of LaTeX.
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// `text` with minus signs and dashes as '-', full-width forms as ASCII, and signs such as the square root or pi as
// LaTeX commands. Other characters, and bytes that are no UTF-8, stay as they are.
std::string UnicodeToLatex(std::string_view text);

}  // namespace swarr
