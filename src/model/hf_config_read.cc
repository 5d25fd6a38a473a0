// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "model/config_fields.h"
#include "model/hf_config.h"
#include "model/hf_rope.h"
#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// transformers' class defaults for fields that a config.json may leave out.
constexpr int kDefaultWindow = 4096;
constexpr int kDefaultMaxWindowLayers = 28;
constexpr int kMistralKvHeads = 8;
// What stays far above every real model of these families, and keeps a lying file from asking for all memory.
constexpr int kMaxLayers = 10'000;
constexpr int kMaxPositions = 1 << 22;

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr const char* kSinks = "swarr_attention_sinks";

enum class Family { kLlama, kMistral, kQwen2, kQwen3 };

Family ParseFamily(const std::string& model_type, const std::string& where) {
  constexpr std::array<std::pair<const char*, Family>, 5> kFamilies = {{{"llama", Family::kLlama},
                                                                        {"mistral", Family::kMistral},
                                                                        {"ministral", Family::kMistral},
                                                                        {"qwen2", Family::kQwen2},
                                                                        {"qwen3", Family::kQwen3}}};
  for (const auto& [name, family] : kFamilies) {
    if (model_type == name) return family;
  }
  throw Error(Concat(where, ": model_type '", model_type, "' is not supported; use llama, mistral, qwen2 or qwen3"));
}

bool IsQwen(Family family) { return family == Family::kQwen2 || family == Family::kQwen3; }

// transformers' window: `sliding_window`, null for none; Qwen looks at it only where use_sliding_window is true.
int ReadWindow(ConfigFields& fields, Family family) {
  const bool none = fields.IsNull("sliding_window");
  if (family == Family::kLlama) {
    SWARR_CHECK(none || fields.Find("sliding_window") == nullptr, fields.where(),
                ": model_type llama has no sliding_window; the same model with a window is model_type mistral");
    return 0;
  }
  const int window = none ? 0 : fields.Int("sliding_window", kDefaultWindow);
  SWARR_CHECK(none || window >= 1, fields.where(), ": sliding_window must be at least 1, or null for full attention");
  const bool use = fields.Bool("use_sliding_window", !IsQwen(family));
  SWARR_CHECK(!none || !fields.Bool("use_sliding_window", false), fields.where(),
              ": use_sliding_window is true, but sliding_window is null; give a window or set the switch to false");
  SWARR_CHECK(use || none || IsQwen(family), fields.where(),
              ": use_sliding_window is false, which model_type mistral does not heed; set sliding_window to null");
  return use ? window : 0;
}

// Which layers are windowed by `layer_types`.
std::vector<bool> ReadLayerTypes(const ordered_json& types, int layers, const std::string& where) {
  SWARR_CHECK(types.is_array() && types.size() == static_cast<std::size_t>(layers), where,
              ": layer_types must be a list of ", layers, " names, one per layer");
  std::vector<bool> windowed;
  for (const ordered_json& type : types) {
    SWARR_CHECK(type == kFull || type == kSliding, where, ": layer_types holds ", type.dump(), "; use ", kFull, " or ",
                kSliding);
    windowed.push_back(type == kSliding);
  }
  return windowed;
}

std::vector<AttentionSpec> ReadAttention(ConfigFields& fields, Family family, int layers) {
  const int window = ReadWindow(fields, family);
  const int first_windowed = IsQwen(family) ? fields.Int("max_window_layers", kDefaultMaxWindowLayers) : 0;
  std::vector<bool> windowed;
  for (int i = 0; i < layers; ++i) windowed.push_back(window > 0 && i >= first_windowed);
  if (const ordered_json* types = fields.Find("layer_types")) {
    windowed = ReadLayerTypes(*types, layers, fields.where());
  }
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  SWARR_CHECK(!any || window > 0, fields.where(), ": layer_types asks for ", kSliding,
              ", but sliding_window gives no window or use_sliding_window is off");
  const int sinks = fields.Int(kSinks, 0);
  SWARR_CHECK(any || sinks == 0, fields.where(), ": ", kSinks, " is ", sinks, ", but no layer has a window");
  std::vector<AttentionSpec> attention;
  for (bool w : windowed) attention.push_back(w ? AttentionSpec{window, sinks} : AttentionSpec{});
  return attention;
}

int ReadKvHeads(ConfigFields& fields, Family family, int heads) {
  if (family == Family::kLlama || fields.IsNull("num_key_value_heads")) return fields.Int("num_key_value_heads", heads);
  return family == Family::kMistral ? fields.Int("num_key_value_heads", kMistralKvHeads)
                                    : fields.Int("num_key_value_heads");
}

int ReadHeadDim(ConfigFields& fields, Family family, const ModelConfig& c) {
  if (fields.Find("head_dim") != nullptr || family == Family::kQwen3) return fields.Int("head_dim");
  SWARR_CHECK(c.heads > 0 && c.hidden % c.heads == 0, fields.where(), ": hidden_size ", c.hidden,
              " is no multiple of num_attention_heads ", c.heads, "; name the head_dim");
  return c.hidden / c.heads;
}

// The ids of eos_token_id, which is one id, a list, or absent: the first becomes eos_id if there is none yet.
void ReadEos(ConfigFields& fields, ModelConfig& config) {
  constexpr const char* kKey = "eos_token_id";
  const ordered_json* eos = fields.Find(kKey);
  if (eos == nullptr) return;
  for (const ordered_json& value : eos->is_array() ? *eos : ordered_json::array({*eos})) {
    const ordered_json one = {{kKey, value}};
    const int id = ConfigFields(one, fields.where()).Int(kKey);
    if (config.eos_id < 0) config.eos_id = id;
    if (!config.Stops(id)) config.stop_ids.push_back(id);
  }
}

// Refuses what would make this program compute another model than the file describes.
void CheckSupported(ConfigFields& fields, Family family) {
  const std::string act = fields.String("hidden_act", "silu");
  SWARR_CHECK(act == "silu", fields.where(), ": hidden_act '", act, "' is not supported; it must be silu");
  // transformers' Qwen2 has its q/k/v biases whatever a field says.
  const bool bias = fields.Bool("attention_bias", false), mlp_bias = fields.Bool("mlp_bias", false);
  SWARR_CHECK(!bias || family == Family::kQwen2, fields.where(), ": attention_bias is not supported");
  SWARR_CHECK(!mlp_bias, fields.where(), ": mlp_bias is not supported");
  SWARR_CHECK(fields.Find("quantization_config") == nullptr, fields.where(),
              ": quantized weights are not supported; use the unquantized model");
}

}  // namespace

ModelConfig ParseModelConfig(const ordered_json& json, const std::string& where) {
  ConfigFields fields(json, where);
  const Family family = ParseFamily(fields.String("model_type"), where);
  fields.Find("architectures");                                       // follows from the family
  for (const char* key : {"dtype", "torch_dtype"}) fields.Find(key);  // the tensors say it themselves
  CheckSupported(fields, family);

  ModelConfig c;
  c.model_type = fields.String("model_type");
  c.layers = fields.Int("num_hidden_layers");
  SWARR_CHECK(c.layers <= kMaxLayers, where, ": num_hidden_layers is ", c.layers, "; at most ", kMaxLayers,
              " are supported");
  c.hidden = fields.Int("hidden_size");
  c.heads = fields.Int("num_attention_heads");
  c.kv_heads = ReadKvHeads(fields, family, c.heads);
  c.head_dim = ReadHeadDim(fields, family, c);
  c.ffn = fields.Int("intermediate_size");
  c.vocab = fields.Int("vocab_size");
  c.max_positions = fields.Int("max_position_embeddings");
  SWARR_CHECK(c.max_positions <= kMaxPositions, where, ": max_position_embeddings is ", c.max_positions, "; at most ",
              kMaxPositions, " are supported");
  c.rms_eps = fields.Double("rms_norm_eps");
  const RopeSettings rope = ReadRope(fields);
  c.rope_theta = rope.theta;
  c.rope_scaling = rope.scaling;
  c.tied = fields.Bool("tie_word_embeddings", false);
  c.qk_norm = family == Family::kQwen3;
  c.qkv_bias = family == Family::kQwen2;
  c.attention = ReadAttention(fields, family, c.layers);
  ReadEos(fields, c);
  c.extra = fields.Unused();
  if (json.contains("eos_token_id") && json["eos_token_id"].is_array()) c.extra["eos_token_id"] = json["eos_token_id"];
  try {
    c.Validate();
  } catch (const Error& e) {
    throw Error(where + ": " + e.what());
  }
  return c;
}

ModelConfig ReadModelConfig(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "config.json";
  ModelConfig config =
      ParseModelConfig(ParseJson<ordered_json>(ReadFile(path, kMostJsonBytes), path.string()), path.string());
  const std::filesystem::path generation = dir / "generation_config.json";
  if (!std::filesystem::exists(generation)) return config;
  const auto json = ParseJson<ordered_json>(ReadFile(generation, kMostJsonBytes), generation.string());
  ConfigFields fields(json, generation.string());
  ReadEos(fields, config);
  try {
    config.Validate();
  } catch (const Error& e) {
    throw Error(generation.string() + ": " + e.what());
  }
  return config;
}

}  // namespace swarr
