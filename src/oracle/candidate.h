// SPDX-License-Identifier: Apache-2.0
// Tensors that someone else computed from a suite's inputs.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "oracle/values.h"

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

}  // namespace swarr::oracle
