// SPDX-License-Identifier: Apache-2.0
// The weights of a Hugging Face directory: model.safetensors, or the shards that model.safetensors.index.json lists,
//   {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}
// The metadata is ignored, since writers disagree on what counts.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/config.h"
#include "tensor/safetensors.h"

namespace swarr {

inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

class WeightFiles {
 public:
  // Opens the files. Where both forms are there it takes model.safetensors, as transformers does. Throws Error if a
  // file is damaged (safetensors.h), if a shard's name leaves the directory, or if the shards and the index differ in
  // where a tensor lies.
  explicit WeightFiles(const std::filesystem::path& dir);

  // Throws unless every parameter of the config's model is there with its shape as a floating type, and nothing else.
  // Two exceptions: a tied model may carry lm_head.weight if it equals the embedding, and the rotary frequencies that
  // old files carry are ignored. Needs little memory, so call it before allocating what the config describes.
  void Check(const ModelConfig& config) const;

  // The element type of the embedding, in lower case: "f32", "bf16", "f16" or "f64".
  std::string dtype() const;
  // Reads a parameter into `to`, which is on the host and has its shape, rounding to its dtype. Throws, naming the
  // tensor, if a value is NaN or infinite or becomes so, there or when it is rounded to `values`.
  void Read(const std::string& name, const Tensor& to, DType values) const;
  // How many values are NaN or infinite, for each parameter that has some. Reads all weights once, in blocks.
  std::map<std::string, std::int64_t> CountNonFinite(const ModelConfig& config) const;
  // Throws, naming the first such parameter, if there are any.
  void CheckFinite(const ModelConfig& config) const;
  // The names within the directory, with that of the index.
  const std::vector<std::string>& file_names() const { return file_names_; }
  // The file of every tensor, by names within the directory.
  const std::map<std::string, std::string>& file_of() const { return file_of_; }

 private:
  void OpenShards(const std::filesystem::path& dir);
  void CheckHead() const;
  [[noreturn]] void RefuseNonFinite(const std::string& name, std::int64_t count, std::size_t others = 0,
                                    const std::string& in_dtype = "") const;
  const SafetensorsFile& FileOf(const std::string& name) const;

  std::string where_;  // the one file, or the index
  std::vector<std::string> file_names_;
  std::map<std::string, SafetensorsFile> files_;  // by name within the directory
  std::map<std::string, std::string> file_of_;    // tensor to file
};

}  // namespace swarr
