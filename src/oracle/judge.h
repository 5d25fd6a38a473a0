// SPDX-License-Identifier: Apache-2.0
// The verdict on a candidate, tensors that someone else computed from a suite's inputs: per case pass, or what is wrong
// with which tensor.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "oracle/expectations.h"

namespace swarr::oracle {

struct CandidateTensor {
  Value value;         // no data where the stored dtype can't be read
  std::string stored;  // dtype by its name in safetensors
};
// By "<case>.<tensor>".
using Candidate = std::map<std::string, CandidateTensor>;

// The file of a suite within a candidate's directory: "<suite>.safetensors".
std::string CandidateFile(const std::string& suite);

// Reads that file. f64, f32, bf16, f16 and i32 become values; tensors of rank 0 get the shape [1]. Throws Error where
// there is no such file, or it is not in the safetensors format.
Candidate ReadCandidate(const std::filesystem::path& directory, const std::string& suite);

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
