// SPDX-License-Identifier: Apache-2.0
// Which machine this is.
#pragma once

#include <string>

namespace swarr {

// The processor's name as the system has it; "unknown processor" where it has none.
std::string ProcessorModel();

}  // namespace swarr
