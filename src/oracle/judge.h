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

// One output of the candidate. Whoever hands in their own fills in the shape and as many elements; their number is
// checked. A tensor from a file has no data where its dtype can't be read.
struct CandidateTensor {
  Value value;  // row-major doubles, whatever the dtype; Value::integer is not looked at
  // The dtype in which it was computed, by its name in safetensors: "F64", "F32", "F16" or "BF16", for integers "I32"
  // or "I64". It is a claim that picks the tolerance: nothing is rounded to it.
  std::string stored;
};
// By "<case>.<tensor>".
using Candidate = std::map<std::string, CandidateTensor>;

// The file of a suite within a candidate's directory: "<suite>.safetensors".
std::string CandidateFile(const std::string& suite);

// Reads that file. f64, f32, bf16, f16, i32 and i64 become values; tensors of rank 0 get the shape [1]. Throws Error
// where there is no such file, or it is not in the safetensors format.
Candidate ReadCandidate(const std::filesystem::path& directory, const std::string& suite);

enum class Finding : std::uint8_t { kPass, kWrong, kMissing, kUnusable };

// One output of a case.
struct TensorVerdict {
  std::string tensor;
  Finding finding = Finding::kPass;
  // Why the tensor can't be compared, "expected [2, 3], got [3, 2]", "shape [2, 3] has 6 elements, got 5", or, where it
  // is wrong and its error is no number, "8 NaN where numbers are expected, the first at [3, 0, 2]", "3 of 9 differ,
  // the first at [4]: 17, not 12". A wrong tensor without a problem has an error above its tolerance.
  std::string problem = {};
  double error = 0, tolerance = 0;  // largest |candidate - truth|; both 0 where nothing could be compared
  // In which it was judged: a value by the coarsest dtype among the case's values, since no value suffers from what its
  // backward is computed in; a gradient, and a value that is a sum (TensorInfo), by the coarsest among all. Null for
  // integers and where nothing could be compared.
  const Precision* precision = nullptr;
};

struct CaseVerdict {
  const Family* family = nullptr;
  const Case* c = nullptr;
  std::vector<TensorVerdict> tensors;

  bool passes() const;
  // Whether a tensor that could be compared is wrong: then a mistake may explain the case.
  bool wrong() const;
  // The coarsest dtype that a tensor was judged in; null where none was.
  const Precision* precision() const;
};

// What is asked of a candidate. Cases are chosen by patterns of their names, as a shell's for files.
struct JudgeOptions {
  bool forward_only = false;              // values alone, no gradients
  std::vector<std::string> cases = {};    // patterns; none: all cases
  std::vector<std::string> skip = {};     // patterns of cases to leave out
  std::vector<std::string> outputs = {};  // names of tensors; none: all
};

struct Verdict {
  std::string suite;
  // The candidate has values, but no gradient at all: only values were judged.
  bool values_alone = false;
  std::vector<CaseVerdict> cases = {};    // those that were asked for
  std::size_t suite_cases = 0;            // those of the suite
  std::vector<std::string> outputs;       // those that were asked for, if not all
  std::vector<std::string> unknown = {};  // names of the candidate that no output has
  std::vector<std::string> accepted;      // known mistakes that were taken for right
  std::size_t bent = 0;                   // cases in which that makes a difference

  std::size_t failures() const;
};

// Compares every output that is asked for with the truth. Where the candidate has values but no gradient of the suite,
// gradients are not asked for. Throws UsageError if a pattern fits no case, no output has a name that is asked for, or
// nothing is left to judge.
Verdict Judge(Expectations& expectations, const Candidate& given, const JudgeOptions& options = {});

}  // namespace swarr::oracle
