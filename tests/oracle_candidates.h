// SPDX-License-Identifier: Apache-2.0
// Candidates that tests of the oracle make: values rounded to a dtype, under the names of a suite's cases.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "oracle/diagnosis.h"
#include "oracle/judge.h"

namespace swarr::oracle {

inline const Precision& PrecisionNamed(std::string_view name) {
  for (const Precision& p : kPrecisions) {
    if (p.name == name) return p;
  }
  throw UsageError(Concat("there is no precision ", name));
}

// To the nearest number of the dtype, to the even one of two.
inline double RoundedTo(const Precision& precision, double x) {
  if (precision.name == "f64" || x == 0 || !std::isfinite(x)) return x;
  int exponent = 0;  // |x| is in [2^exponent, 2^(exponent + 1))
  std::frexp(x, &exponent);
  --exponent;
  const double spacing = std::max(std::ldexp(2 * precision.u, exponent), 2 * precision.least);
  const double rounded = std::nearbyint(x / spacing) * spacing;
  constexpr double kLargestF16 = 65504;
  const bool overflows = precision.name == "f16" && std::abs(rounded) > kLargestF16;
  return overflows ? std::copysign(HUGE_VAL, x) : rounded;
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

// A suite, and its truths and mistakes as far as some test of the program has needed them.
struct Prepared {
  Suite suite;
  Expectations expectations{suite};
};

inline Prepared& PreparedSuite(const std::string& name) {
  static std::map<std::string, std::unique_ptr<Prepared>> prepared;
  auto& known = prepared[name];
  if (!known) known.reset(new Prepared{MakeSuite(name)});
  return *known;
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
