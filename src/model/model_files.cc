// SPDX-License-Identifier: Apache-2.0
#include "model/model_files.h"

#include <algorithm>
#include <cstring>

#include "tensor/files.h"
#include "tensor/safetensors.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

OwnedTensor LikeWithDType(const Tensor& t, DType dtype) {
  return t.rank() == 2 ? OwnedTensor(dtype, {t.dim(0), t.dim(1)}) : OwnedTensor(dtype, {t.dim(0)});
}

// Reads `name` into `to`, converting between floating dtypes.
void ReadParameter(const SafetensorsFile& file, const std::string& name, const Tensor& to) {
  const DType stored = file.dtype(name);
  if (stored == to.dtype()) return file.CopyTo(name, to);
  const OwnedTensor raw = LikeWithDType(to, stored);
  file.CopyTo(name, raw.view());
  Arena arena;
  CastForward({.arena = &arena}, to, raw.view());
}

}  // namespace

std::vector<std::string> ModelFileNames() { return {kConfigFile, kWeightsFile, kTokenizerFile}; }

std::unique_ptr<Transformer> LoadModel(const std::filesystem::path& dir, DType dtype, bool with_gradients,
                                       MemoryKind kind) {
  auto model = std::make_unique<Transformer>(ReadModelConfig(dir), dtype, with_gradients, kind);
  const SafetensorsFile file(dir / kWeightsFile);
  const std::string where = (dir / kWeightsFile).string();
  std::size_t used = 0;
  model->parameters().Set([&](const Parameter& p, const Tensor& master) {
    SWARR_CHECK(file.Contains(p.name), where, " has no tensor ", p.name, ", which config.json asks for");
    ReadParameter(file, p.name, master);
    ++used;
    if (p.name != kEmbedding || !model->config().tied || !file.Contains(kHead)) return;
    const OwnedTensor head(master);
    ReadParameter(file, kHead, head.view());
    SWARR_CHECK(std::memcmp(head.view().raw(), master.raw(), master.bytes()) == 0, where, ": ", kHead,
                " differs from the embedding, but config.json ties them (tie_word_embeddings)");
    ++used;
  });
  for (const std::string& name : file.names()) {
    if (used == file.names().size()) break;
    const auto& all = model->parameters().all();
    const bool known = std::any_of(all.begin(), all.end(), [&](const Parameter& p) { return p.name == name; });
    SWARR_CHECK(known, where, " holds a tensor ", name, " that the model of config.json does not have");
  }
  return model;
}

void WriteModelFiles(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer) {
  std::vector<NamedTensor> tensors;
  const HostView master(model.parameters().master(), model.parameters().kind());
  for (const Parameter& p : model.parameters().all()) tensors.push_back({p.name, p.PartOf(master.view())});
  WriteSafetensors(dir / kWeightsFile, tensors);
  WriteFileAtomically(dir / kTokenizerFile, tokenizer.json_text());
  WriteFileAtomically(dir / kConfigFile, ToJson(model.config()).dump(2) + "\n");
}

void SaveModel(const std::filesystem::path& dir, const Transformer& model, const Tokenizer& tokenizer) {
  AtomicDirectory out(dir, ModelFileNames());
  WriteModelFiles(out.path(), model, tokenizer);
  out.Commit();
}

}  // namespace swarr
