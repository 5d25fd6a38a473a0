// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace swarr {

// The digits that recur in a decimal, and the length of what says so.
struct Cycle {
  std::string digits{};
  std::size_t bytes = 0;  // 0: none
};

// The cycle that `text`, what follows the point and the digits before, begins with: (27), \overline{27}, \bar2\bar7,
// \dot27, \dot142857\dot1.
Cycle CycleAt(std::string_view text);

}  // namespace swarr
