// SPDX-License-Identifier: Apache-2.0
#include "model/model_files.h"

#include <nlohmann/json.hpp>

#include "base/directories.h"
#include "base/files.h"
#include "model/hf_config.h"
#include "model/weight_files.h"
#include "tensor/safetensors.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kTokenizerFile = "tokenizer.json";

}  // namespace

std::vector<std::string> ModelFileNames() { return {kConfigFile, kWeightsFile, kTokenizerFile}; }

std::vector<std::string> SideFileNames() {
  return {"added_tokens.json", "chat_template.jinja",     "chat_template.json", "generation_config.json",
          "merges.txt",        "special_tokens_map.json", "tokenizer.model",    "tokenizer_config.json",
          "vocab.json"};
}

std::vector<std::string> AllFileNames(std::vector<std::string> more) {
  for (const auto& names : {ModelFileNames(), SideFileNames()}) more.insert(more.end(), names.begin(), names.end());
  return more;
}

SideFiles ReadSideFiles(const std::filesystem::path& dir) {
  SideFiles files;
  for (const std::string& name : SideFileNames()) {
    if (std::filesystem::exists(dir / name)) files[name] = ReadFile(dir / name);
  }
  return files;
}

std::unique_ptr<Transformer> LoadModel(const std::filesystem::path& dir, DType dtype, bool with_gradients,
                                       MemoryKind kind, const std::function<void(const ModelConfig&)>& check) {
  RequireRecovered(dir);
  const ModelConfig config = ReadModelConfig(dir);
  const WeightFiles weights(dir);
  weights.Check(config);
  if (check) check(config);
  auto model = std::make_unique<Transformer>(config, dtype, with_gradients, kind);
  model->parameters().Set([&](const Parameter& p, const Tensor& master) { weights.Read(p.name, master, dtype); });
  return model;
}

Tokenizer LoadTokenizer(const std::filesystem::path& dir, const ModelConfig& config) {
  return Tokenizer::Load(dir).ForModel(config.vocab);
}

void WriteModelFiles(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer,
                     const SideFiles& side_files) {
  std::vector<NamedTensor> tensors;
  const HostView master(model.parameters().master(), model.parameters().kind());
  for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.PartOf(master.view())});
  WriteSafetensors(dir / kWeightsFile, tensors);
  for (const auto& [name, content] : side_files) WriteFileAtomically(dir / name, content);
  WriteFileAtomically(dir / kTokenizerFile, tokenizer.json_text());
  const char* dtype = master.view().dtype() == DType::kF64 ? "float64" : "float32";
  WriteFileAtomically(dir / kConfigFile, ToJson(model.config(), dtype).dump(2) + "\n");
}

}  // namespace swarr
