// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/directories.h"
#include "base/files.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/weight_files.h"

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

std::vector<int> EveryLayer(int layers, int every) {
  if (every < 2 || every > layers) {
    throw UsageError(Concat("one full layer in ", every, " makes no mixture in a model of ", layers,
                            " layers; give a number from 2 to ", layers));
  }
  std::vector<int> chosen;
  for (int layer = every - 1; layer < layers; layer += every) chosen.push_back(layer);
  return chosen;
}

namespace {

// Hugging Face's names of the dtypes that files hold.
std::string TorchName(const std::string& dtype) {
  if (dtype == "bf16") return "bfloat16";
  if (dtype == "f16") return "float16";
  return dtype == "f64" ? "float64" : "float32";
}

}  // namespace

void ConvertModel(const std::filesystem::path& from, const std::vector<AttentionSpec>& attention,
                  const std::filesystem::path& to, const std::map<std::string, std::string>& more) {
  std::error_code ignored;
  SWARR_CHECK(!std::filesystem::equivalent(from, to, ignored), "won't convert ", from.string(),
              " in place; choose another output directory");
  ModelConfig config = ReadModelConfig(from);
  const WeightFiles weights(from);
  weights.Check(config);
  weights.CheckFinite(config);
  config.attention = attention;
  const std::string config_text = ToJson(config, TorchName(weights.dtype())).dump(2) + "\n";

  std::vector<std::string> copied = SideFileNames();
  copied.push_back("tokenizer.json");
  std::erase_if(copied, [&](const std::string& name) { return !std::filesystem::exists(from / name); });
  copied.insert(copied.end(), weights.file_names().begin(), weights.file_names().end());

  std::vector<std::string> names = AllFileNames(copied);
  for (const auto& [name, content] : more) names.push_back(name);
  AtomicDirectory out(to, names);
  for (const std::string& name : copied) CopyFile(from / name, out.path() / name);
  WriteFileAtomically(out.path() / "config.json", config_text);
  for (const auto& [name, content] : more) WriteFileAtomically(out.path() / name, content);
  out.Commit();
}

}  // namespace swarr
