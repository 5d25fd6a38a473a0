// SPDX-License-Identifier: Apache-2.0
// The cases of the suite `attention`: lengths, windows, sinks, heads, and in which rows queries and keys stand.
#pragma once

#include "oracle/suite.h"

namespace swarr::oracle {

std::vector<Case> AttentionCases();

}  // namespace swarr::oracle
