// SPDX-License-Identifier: Apache-2.0
// Why a candidate fails: which known mistake gives what it gives.
//
// A mistake explains a failing case if the mistaken results, computed on the same inputs, are as near to the
// candidate's tensors as a right candidate has to be to the truth; tensors that are missing are passed over. A mistake
// contradicts a passing case if its results are not as near there. Where no mistake explains
// all and contradicts nothing, pairs made together are tried: of one that explains some failing case by itself, with
// any other.
#pragma once

#include <string>
#include <vector>

#include "oracle/judge.h"

namespace swarr::oracle {

struct Explanation {
  std::vector<std::string> mistakes;          // one, or two that are made together
  std::size_t explained = 0;                  // failing cases
  std::vector<std::size_t> alone = {};        // of a pair: the failing cases that each explains without the other
  std::size_t contradicted = 0;               // passing cases
  std::vector<std::string> unexplained = {};  // the other failing cases
};

// What is said of one family with failing cases.
struct Diagnosis {
  std::string family;
  std::size_t failing = 0;  // cases in which a tensor is wrong
  // All mistakes that explain everything and contradict nothing; if there is none, the three that explain most.
  std::vector<Explanation> explanations;
  std::vector<std::string> hints;  // where no mistake explains everything: what failing cases have in common

  bool complete() const;  // explained without a rest
};

std::vector<Diagnosis> Diagnose(Expectations& expectations, const Candidate& candidate, const Verdict& verdict);

}  // namespace swarr::oracle
