// SPDX-License-Identifier: Apache-2.0
// Candidates that tests of the oracle make: values rounded to a dtype, under the names of a suite's cases.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "oracle/diagnosis.h"
#include "oracle/judge.h"
#include "tensor/bf16.h"

namespace swarr::oracle {

inline const Precision& PrecisionNamed(std::string_view name) {
  for (const Precision& p : kPrecisions) {
    if (p.name == name) return p;
  }
  throw UsageError(Concat("there is no precision ", name));
}

inline double RoundedTo(const Precision& precision, double x) {
  if (precision.name == "f32") return static_cast<double>(static_cast<float>(x));
  if (precision.name == "bf16") return static_cast<double>(static_cast<float>(BFloat16(x)));
  return x;
}

// All outputs of all cases with this mistake ("": the truth), stored in a dtype.
inline Candidate CandidateWith(Expectations& expectations, const Family& wrong, const std::string& mistake,
                               const Precision& precision) {
  Candidate candidate;
  for (const Family& family : expectations.suite().families) {
    for (const Case& c : family.cases) {
      for (const auto& [name, exact] : expectations.Outputs(family, c, &family == &wrong ? mistake : "")) {
        CandidateTensor& tensor = candidate[c.name + "." + name];
        tensor.value = exact;
        tensor.stored = exact.integer ? "I32" : precision.stored;
        if (exact.integer) continue;
        for (double& x : tensor.value.data) x = RoundedTo(precision, x);
      }
    }
  }
  return candidate;
}

inline Candidate TruthIn(Expectations& expectations, const Precision& precision) {
  return CandidateWith(expectations, expectations.suite().families.front(), "", precision);
}

// A tensor of any floating dtype as a candidate computed in `precision` has it.
inline CandidateTensor CandidateOf(const Tensor& t, const Precision& precision) {
  CandidateTensor tensor{{}, std::string(precision.stored)};
  for (int i = 0; i < t.rank(); ++i) tensor.value.shape.push_back(t.dim(i));
  DispatchSum(t.dtype(), [&]<class T>() { tensor.value.data.assign(t.data<T>(), t.data<T>() + t.size()); });
  return tensor;
}

// The largest error of a candidate in units of its tolerance.
inline double LargestExcess(const Verdict& verdict) {
  double largest = 0;
  for (const CaseVerdict& c : verdict.cases) {
    for (const TensorVerdict& t : c.tensors) {
      // Integers have a tolerance of 0: one that is wrong is infinitely so.
      if (t.error > 0) largest = std::max(largest, t.error / t.tolerance);
    }
  }
  return largest;
}

}  // namespace swarr::oracle
