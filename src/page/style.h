// SPDX-License-Identifier: Apache-2.0
// How a page looks, as CSS (style.cc).
#pragma once

#include <string_view>

namespace swarr {

extern const std::string_view kPageStyle;

}  // namespace swarr
