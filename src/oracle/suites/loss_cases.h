// SPDX-License-Identifier: Apache-2.0
// The cases of the suite `loss` and of its parts, `advantages` and `policy`: objectives on small batches.
#pragma once

#include "oracle/suite.h"

namespace swarr::oracle {

std::vector<Case> LossCases();
// What advantages are made of alone.
std::vector<Case> AdvantageCases();
// What comes after the advantages; these are inputs, rounded to bf16.
std::vector<Case> PolicyCases();

}  // namespace swarr::oracle
