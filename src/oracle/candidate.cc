// SPDX-License-Identifier: Apache-2.0
#include "oracle/candidate.h"

#include "tensor/safetensors.h"

namespace swarr::oracle {
namespace {

void Read(const SafetensorsFile& file, const std::string& name, Value& value) {
  const std::int64_t size = SizeOf(value.shape);
  value.data.resize(static_cast<std::size_t>(size));
  if (size == 0) return;
  if (value.integer) {
    std::vector<std::int32_t> integers(value.data.size());
    file.CopyTo(name, ViewOf(integers.data(), DType::kI32, file.shape(name)));
    value.data.assign(integers.begin(), integers.end());
  } else {
    file.ReadAs(name, 0, Tensor(value.data.data(), DType::kF64, {size}));
  }
}

}  // namespace

std::string CandidateFile(const std::string& suite) { return suite + ".safetensors"; }

Candidate ReadCandidate(const std::filesystem::path& directory, const std::string& suite) {
  SWARR_CHECK(!std::filesystem::is_regular_file(directory), directory.string(),
              " is a file; a candidate for the suite ", suite, " is the directory that holds ", CandidateFile(suite));
  const std::filesystem::path path = directory / CandidateFile(suite);
  SWARR_CHECK(std::filesystem::is_regular_file(path), "there is no ", path.string(), "; a candidate for the suite ",
              suite, " is a directory with this file");
  const SafetensorsFile file(path);
  Candidate candidate;
  for (const std::string& name : file.names()) {
    CandidateTensor& tensor = candidate[name];
    tensor.stored = file.stored_dtype(name);
    tensor.value.shape = file.shape(name);
    if (tensor.value.shape.empty()) tensor.value.shape = {1};
    tensor.value.integer = tensor.stored == "I32";
    constexpr std::size_t kMaxRank = Tensor::kMaxRank;
    const bool readable = (tensor.value.integer || file.IsFloating(name)) && tensor.value.shape.size() <= kMaxRank;
    if (readable) Read(file, name, tensor.value);
  }
  return candidate;
}

}  // namespace swarr::oracle
