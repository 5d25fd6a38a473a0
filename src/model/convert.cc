// SPDX-License-Identifier: Apache-2.0
#include "model/convert.h"

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/directories.h"
#include "base/files.h"
#include "base/watched_copy.h"
#include "model/hf_config.h"
#include "model/model_files.h"
#include "model/parameters.h"
#include "model/weight_files.h"
#include "tensor/memory.h"

namespace swarr {

std::vector<AttentionSpec> WindowedAttention(int layers, AttentionSpec spec, const std::vector<int>& full_layers) {
  if (spec.window < 1) {
    throw UsageError(Concat("the window is ", spec.window,
                            "; give at least 1, the number of visible tokens including the current one"));
  }
  if (spec.prompt && spec.sinks > 0) throw UsageError("the sinks are a number or the prompt, not both");
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

namespace fs = std::filesystem;

// The learned sinks, and the weights of a single file beside them: programs that find a model.safetensors look for no
// index.
constexpr const char* kSinksFile = "model-sinks.safetensors";
constexpr const char* kOtherFile = "model-without-sinks.safetensors";

// Hugging Face's names of the dtypes that files hold.
std::string TorchName(const std::string& dtype) {
  if (dtype == "bf16") return "bfloat16";
  if (dtype == "f16") return "float16";
  return dtype == "f64" ? "float64" : "float32";
}

std::string NameBesideSinks(const std::string& name) { return name == kWeightsFile ? kOtherFile : name; }

// Writes learned sinks of this value as a file of its own, in the dtype of the other weights (f32 beside f16), and the
// index of all files.
void WriteLearnedSinks(const fs::path& dir, const ModelConfig& config, const WeightFiles& weights, double value) {
  const DType dtype = FindName<DType>(weights.dtype()).value_or(DType::kF32);
  const OwnedTensor sinks(dtype, {config.heads});
  Dispatch(dtype, [&]<class T>() {
    std::fill_n(sinks.view().data<T>(), config.heads, static_cast<T>(static_cast<Accumulator<T>>(value)));
  });
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const auto& [name, file] : weights.file_of()) map[name] = NameBesideSinks(file);
  std::vector<NamedTensor> tensors;
  for (const ParameterShape& p : ParameterShapes(config)) {
    if (map.contains(p.name)) continue;
    tensors.push_back({p.name, sinks.view()});
    map[p.name] = kSinksFile;
  }
  WriteSafetensors(dir / kSinksFile, tensors);
  const nlohmann::ordered_json index = {
      {"metadata", {{"total_size", ParameterCount(config) * static_cast<std::int64_t>(SizeOf(dtype))}}},
      {"weight_map", map}};
  WriteFileAtomically(dir / kIndexFile, index.dump(2) + "\n");
}

}  // namespace

void ConvertModel(const fs::path& from, const std::vector<AttentionSpec>& attention, const fs::path& to,
                  const std::map<std::string, std::string>& more, std::optional<double> learned_sinks,
                  Existing existing, const std::function<void(std::int64_t, std::int64_t)>& on_progress) {
  std::error_code ignored;
  SWARR_CHECK(!fs::equivalent(from, to, ignored), "won't convert ", from.string(),
              " in place; choose another output directory");
  ModelConfig config = ReadModelConfig(from);
  SWARR_CHECK(!learned_sinks || !config.learned_sinks, from.string(),
              " has learned sinks already, which stay as they are; convert it without --learned-sinks");
  const WeightFiles weights(from);
  weights.Check(config);
  weights.CheckFinite(config);
  config.attention = attention;
  config.learned_sinks = config.learned_sinks || learned_sinks.has_value();
  const std::string config_text = ToJson(config, TorchName(weights.dtype())).dump(2) + "\n";

  std::map<std::string, std::string> copied;  // name to its new name
  const auto copy = [&](const std::string& name) { copied[name] = learned_sinks ? NameBesideSinks(name) : name; };
  for (const std::string& name : SideFileNames()) copy(name);
  copy("tokenizer.json");
  std::erase_if(copied, [&](const auto& file) { return !fs::exists(from / file.first); });
  for (const std::string& name : weights.file_names()) copy(name);
  if (learned_sinks) copied.erase(kIndexFile);  // the new one names more

  std::vector<std::string> names = AllFileNames({kSinksFile, kOtherFile, kIndexFile});
  for (const auto& [name, new_name] : copied) names.push_back(new_name);
  for (const auto& [name, content] : more) names.push_back(name);
  AtomicDirectory out(to, names, existing);
  std::int64_t done = 0, total = 0;
  for (const auto& [name, new_name] : copied) total += static_cast<std::int64_t>(fs::file_size(from / name));
  for (const auto& [name, new_name] : copied) {
    CopyFile(from / name, out.path() / new_name, [&](std::uint64_t bytes) {
      if (on_progress) on_progress(done += static_cast<std::int64_t>(bytes), total);
    });
  }
  if (learned_sinks) WriteLearnedSinks(out.path(), config, weights, *learned_sinks);
  WriteFileAtomically(out.path() / "config.json", config_text);
  for (const auto& [name, content] : more) WriteFileAtomically(out.path() / name, content);
  out.Commit();
}

}  // namespace swarr
