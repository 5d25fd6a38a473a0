// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// An answer without white space, marks of Markdown and quotation marks around it: **5**, "5", ### 5.
std::string WithoutMarkdown(std::string_view answer);

}  // namespace swarr
