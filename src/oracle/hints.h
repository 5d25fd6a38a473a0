// SPDX-License-Identifier: Apache-2.0
// What failing cases have in common, where no known mistake explains them.
#pragma once

#include <string>
#include <vector>

#include "oracle/judge.h"

namespace swarr::oracle {

using CaseVerdicts = std::vector<const CaseVerdict*>;

// Whether every value is right in the failing cases.
bool AreGradientsAloneWrong(const CaseVerdicts& failing);
inline constexpr const char* kGradientsAloneAreWrong = "values are right, gradients are wrong";

// Sentences on one family's cases, the most telling first:
//   - that gradients alone are wrong;
//   - what separates failing from passing cases, as a condition on one parameter: exactly, or else to one side, as
//     "only cases with ... fail" and "all cases with ... fail";
//   - which outputs are wrong in every failing case.
// `failing` has at least one case; cases that are in neither list have tensors that can't be compared.
std::vector<std::string> HintsOf(const CaseVerdicts& failing, const CaseVerdicts& passing);

}  // namespace swarr::oracle
