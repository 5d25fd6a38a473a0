// SPDX-License-Identifier: Apache-2.0
// Why a candidate fails: which known mistakes give what it gives.
//
// A mistake explains a failing case if the mistaken results, computed on the same inputs, are as near to the
// candidate's tensors as a right candidate has to be to the truth; tensors that are missing are passed over. A mistake
// contradicts a passing case if its results are not as near there. Where nothing explains what is not finite, it is
// passed over as what is missing. Where no mistake explains all and contradicts nothing, the fewest that do it together
// are looked for, first those that are made in every case at once, then those that are made in cases of their own:
//   - two at once, one of which explains some failing case by itself;
//   - two, each in its own cases;
//   - three at once, one of which explains some failing case by itself, and another one beside it;
//   - up to kMostInOwnCases, each in its own cases.
// Where these do not either, single mistakes are tried within the tolerances of coarser dtypes, and told in a hint.
#pragma once

#include <string>
#include <vector>

#include "oracle/judge.h"

namespace swarr::oracle {

inline constexpr std::size_t kMostInOwnCases = 4;

struct Explanation {
  std::vector<std::string> mistakes;
  // Several mistakes: whether they are made at once, everywhere; else every failing case has one of them alone.
  bool at_once = true;
  std::size_t explained = 0;  // failing cases
  // By each of several mistakes without the others: the failing cases.
  std::vector<std::vector<std::string>> alone = {};
  std::size_t contradicted = 0;               // passing cases
  std::vector<std::string> unexplained = {};  // the other failing cases
};

// What is said of one family with failing cases.
struct Diagnosis {
  std::string family;
  std::size_t failing = 0;  // cases in which a tensor is wrong
  // All that explain everything and contradict nothing; if there is none, the three that explain most.
  std::vector<Explanation> explanations;
  // What was passed over; where nothing explains everything, a coarser dtype in which something does, or else what
  // failing cases have in common.
  std::vector<std::string> hints;

  bool complete() const;  // explained without a rest
};

// "A", in quotes; "A" together with "B"; "A" in some cases, "B" in others.
std::string NameOf(const Explanation& explanation);
// Their names, with "or" between them.
std::string NamesOf(const std::vector<Explanation>& explanations);

std::vector<Diagnosis> Diagnose(Expectations& expectations, const Candidate& candidate, const Verdict& verdict);

}  // namespace swarr::oracle
