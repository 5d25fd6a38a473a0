// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <algorithm>

#include "model/config.h"
#include "model/model_files.h"
#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {

std::vector<AttentionSpec> WindowedAttention(int layers, AttentionSpec spec, const std::vector<int>& full_layers) {
  if (spec.window < 1) {
    throw UsageError(Concat("the window is ", spec.window,
                            "; give at least 1, the number of visible tokens including the current one"));
  }
  if (spec.sinks < 0) throw UsageError(Concat("the number of sinks is ", spec.sinks, "; give 0 or more"));
  std::vector<AttentionSpec> attention(static_cast<std::size_t>(layers), spec);
  for (const int layer : full_layers) {
    if (layer < 0 || layer >= layers) {
      throw UsageError(Concat("the model has no layer ", layer, "; its layers are 0 to ", layers - 1));
    }
    AttentionSpec& full = attention[static_cast<std::size_t>(layer)];
    if (full.window == 0) throw UsageError(Concat("layer ", layer, " is named twice among the full layers"));
    full = {};
  }
  return attention;
}

void ConvertModel(const std::filesystem::path& from, const std::vector<AttentionSpec>& attention,
                  const std::filesystem::path& to, const std::map<std::string, std::string>& more) {
  // Reading everything is what finds the damage that a copy of bytes would carry on.
  Tokenizer::Load(from);
  const std::unique_ptr<Transformer> model = LoadModel(from, DType::kF32, /*with_gradients=*/false);
  std::error_code ignored;
  SWARR_CHECK(!std::filesystem::equivalent(from, to, ignored), "won't convert ", from.string(),
              " in place; choose another output directory");
  ModelConfig config = model->config();
  config.attention = attention;
  const std::string config_text = ToJson(config).dump(2) + "\n";

  std::vector<std::string> names = ModelFileNames();
  for (const auto& [name, content] : more) names.push_back(name);
  AtomicDirectory out(to, names);
  for (const std::string& name : ModelFileNames()) {
    if (name != "config.json") WriteFileAtomically(out.path() / name, ReadFile(from / name));
  }
  WriteFileAtomically(out.path() / "config.json", config_text);
  for (const auto& [name, content] : more) WriteFileAtomically(out.path() / name, content);
  out.Commit();
}

}  // namespace swarr
