// SPDX-License-Identifier: Apache-2.0
// The verdict on a candidate: per case pass, or what is wrong with which tensor.
#pragma once

#include <string>
#include <vector>

#include "oracle/candidate.h"
#include "oracle/expectations.h"

namespace swarr::oracle {

enum class Finding : std::uint8_t { kPass, kWrong, kMissing, kUnusable };

// One output of a case.
struct TensorVerdict {
  std::string tensor;
  Finding finding = Finding::kPass;
  // Why the tensor can't be compared, "expected [2, 3], got [3, 2]", or, where it is wrong and its error is no number,
  // "8 NaN where numbers are expected, the first at [3, 0, 2]". A wrong tensor without a problem has an error above its
  // tolerance.
  std::string problem;
  double error = 0, tolerance = 0;  // largest |candidate - truth|; both 0 where nothing could be compared
};

struct CaseVerdict {
  const Family* family = nullptr;
  const Case* c = nullptr;
  // The coarsest dtype among the case's tensors decides the tolerance of all: a computation in bf16 keeps sums and
  // gradients of weights in f32, and they are no more exact for it. Null where no tensor could be compared.
  const Precision* precision = nullptr;
  std::vector<TensorVerdict> tensors;

  bool passes() const;
  // Whether a tensor that could be compared is wrong: then a mistake may explain the case.
  bool wrong() const;
};

struct Verdict {
  std::string suite;
  // The candidate has values, but no gradient at all: only values were judged.
  bool values_alone = false;
  std::vector<CaseVerdict> cases;
  std::vector<std::string> unknown;  // names of the candidate that no output has

  std::size_t failures() const;
};

// Compares every output of every case with the truth. With `forward_only`, or where the candidate has values but no
// gradient of the suite, gradients are not asked for.
Verdict Judge(Expectations& expectations, const Candidate& candidate, bool forward_only = false);

}  // namespace swarr::oracle
