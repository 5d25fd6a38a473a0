// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// The number at `path` of the JSON object `line`, with the digits that stand there: 0.10, 1e-7 and integers of any
// size, which would lose some of them as a double. "a.b" is b of the object in a; a list of one number counts as the
// number. Empty if there is none. The line must be valid JSON.
std::string NumberText(std::string_view line, std::string_view path);

}  // namespace swarr
