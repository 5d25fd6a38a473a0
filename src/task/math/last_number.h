// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// The last number of a sentence, such as -3, 1,234.5, 12 345, 1/2, 50% or "5 million", with the words that are part of
// it. Empty if there is none, if it is denied ("not 5"), or if it is part of a formula (2^5, \frac{1}{2}).
std::string LastNumber(std::string_view original);

}  // namespace swarr
