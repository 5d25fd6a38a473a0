// SPDX-License-Identifier: Apache-2.0
// A verdict and its diagnosis, for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "oracle/diagnosis.h"

namespace swarr::oracle {

// The candidate is accepted if every case passes and gradients were judged or, by `forward_only`, not wanted.
bool Accepted(const Verdict& verdict, bool forward_only);

// A table of failing cases, the diagnosis, the verdict.
std::string Text(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only);

// {"suite", "accepted", "values_alone", "cases", "failing": [{"case", "dtype", "tensors": [{"tensor", "error",
// "tolerance"} or {"tensor", "problem"}]}], "diagnosis": [{"family", "failing", "complete", "explanations":
// [{"mistake", "explained", "contradicted", "unexplained": [cases]}], "hints"}], "unknown": [names]}.
nlohmann::ordered_json ToJson(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only);

}  // namespace swarr::oracle
