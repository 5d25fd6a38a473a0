// SPDX-License-Identifier: Apache-2.0
// What failing cases have in common, where no known mistake explains them.
#pragma once

#include <string>
#include <vector>

#include "oracle/judge.h"

namespace swarr::oracle {

using CaseVerdicts = std::vector<const CaseVerdict*>;

// Sentences on one family's cases, in this order:
//   - a coarser dtype in whose tolerance everything is, if most cases fail: results of bf16 stored as F32;
//   - which outputs are wrong;
//   - what separates failing from passing cases, as a condition on one parameter: exactly, or else to one side, as
//     "only cases with ... fail" and "all cases with ... fail".
// `failing` has at least one case; cases that are in neither list have tensors that can't be compared.
std::vector<std::string> HintsOf(Expectations& expectations, const CaseVerdicts& failing, const CaseVerdicts& passing);

}  // namespace swarr::oracle
