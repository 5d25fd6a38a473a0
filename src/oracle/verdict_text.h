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

// The same as one object. The table of docs/oracle.md has its fields.
nlohmann::ordered_json ToJson(const Verdict& verdict, const std::vector<Diagnosis>& diagnoses, bool forward_only);

}  // namespace swarr::oracle
