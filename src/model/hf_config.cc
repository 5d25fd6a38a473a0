// SPDX-License-Identifier: Apache-2.0
#include "model/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/files.h"
#include "base/names.h"
#include "model/config_fields.h"
#include "model/hf_rope.h"
#include "model/limits.h"

namespace swarr {

// What decides the defaults and the meaning of fields. "ministral" is a mistral.
enum class ModelFamily : std::uint8_t { kLlama, kMistral, kQwen2, kQwen3, kGraniteSwa };
template <>
inline constexpr std::array kNames<ModelFamily> = {"llama", "mistral", "qwen2", "qwen3", "granite_swa"};
constexpr std::array kArchitectures = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
                                       "GraniteSWAForCausalLM"};
static_assert(kArchitectures.size() == kNames<ModelFamily>.size());

namespace {

using nlohmann::ordered_json;

// transformers' class defaults for fields that a config.json may leave out.
constexpr int kDefaultWindow = 4096;
constexpr int kDefaultMaxWindowLayers = 28;
constexpr int kMistralKvHeads = 8;
// GraniteSWA's (transformers 5.24, granite_swa/configuration_granite_swa.py). Its class has learned sinks in every
// layer (`self_attn.sinks`, as gpt-oss names them) and no key for them; with neutral multipliers all else is Mistral's.
constexpr int kGraniteWindow = 128;
constexpr int kGraniteKvHeads = 4;
constexpr int kGraniteFullEvery = 4;
constexpr std::array kGraniteMultipliers = {"embedding_multiplier", "residual_multiplier", "logits_scaling"};

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr const char* kSinks = "swarr_attention_sinks";
constexpr const char* kPrompt = "prompt";  // their number is the length of each text's own prompt

ModelFamily ParseFamily(const std::string& model_type, const std::string& where) {
  const std::optional<ModelFamily> family = FindName<ModelFamily>(model_type == "ministral" ? "mistral" : model_type);
  SWARR_CHECK(family.has_value(), where, ": model_type '", Excerpt(model_type), "' is not supported; use ",
              Listed(kNames<ModelFamily>));
  return *family;
}

// Refuses the class of another family in `architectures`; what else stands there, transformers does not heed either.
void CheckArchitectures(ConfigFields& fields, ModelFamily family) {
  const ordered_json* names = fields.Find("architectures");
  if (names == nullptr) return;
  const char* own = kArchitectures[static_cast<std::size_t>(family)];
  const auto listed = [&](const char* name) { return std::find(names->begin(), names->end(), name) != names->end(); };
  for (const char* other : kArchitectures) {
    SWARR_CHECK(other == own || !listed(other) || listed(own), fields.where(), ": architectures names ", other,
                ", but model_type is ", Name(family), "; which one do the weights want?");
  }
}

bool IsQwen(ModelFamily family) { return family == ModelFamily::kQwen2 || family == ModelFamily::kQwen3; }
bool IsGranite(ModelFamily family) { return family == ModelFamily::kGraniteSwa; }

// transformers' window: `sliding_window`, null for none; Qwen looks at it only where use_sliding_window is true. A
// Llama may name one that is switched off, or that all of its positions fit into.
int ReadWindow(ConfigFields& fields, ModelFamily family, int positions) {
  const bool none = fields.IsNull("sliding_window");
  if (family == ModelFamily::kLlama) {
    const bool on = fields.Get<bool>("use_sliding_window", true) && fields.Find("sliding_window") != nullptr;
    SWARR_CHECK(!on || fields.Get<int>("sliding_window") >= positions, fields.where(), ": sliding_window is ",
                fields.Get<int>("sliding_window"),
                ", but model_type llama has no sliding_window; the same model with a window is model_type mistral");
    return 0;
  }
  const int window = none ? 0 : fields.Get<int>("sliding_window", IsGranite(family) ? kGraniteWindow : kDefaultWindow);
  SWARR_CHECK(none || window >= 1, fields.where(),
              ": sliding_window must be at least 1, or null for full attention, not ", window);
  const bool use = fields.Get<bool>("use_sliding_window", !IsQwen(family));
  SWARR_CHECK(!none || !fields.Get<bool>("use_sliding_window", false), fields.where(),
              ": use_sliding_window is true, but sliding_window is null; give a window or set the switch to false");
  SWARR_CHECK(use || none || IsQwen(family), fields.where(), ": use_sliding_window is false, which model_type ",
              Name(family), " does not heed; set sliding_window to null");
  return use ? window : 0;
}

// Which layers are windowed by `layer_types`.
std::vector<bool> ReadLayerTypes(const ordered_json& types, int layers, const std::string& where) {
  SWARR_CHECK(types.is_array() && types.size() == static_cast<std::size_t>(layers), where, ": layer_types has ",
              types.is_array() ? types.size() : 1, " entries where a list of ", layers,
              " names is needed, one per layer (num_hidden_layers)");
  std::vector<bool> windowed;
  for (const ordered_json& type : types) {
    SWARR_CHECK(type == kFull || type == kSliding, where, ": layer_types holds ", Excerpt(type.dump()), "; use ", kFull,
                " or ", kSliding);
    windowed.push_back(type == kSliding);
  }
  return windowed;
}

// Which layers are windowed: by `layer_types` if they are given, else those from max_window_layers on; of a GraniteSWA
// all but every fourth.
std::vector<bool> ReadWindowed(ConfigFields& fields, ModelFamily family, int layers, int window) {
  const int first_windowed = IsQwen(family) ? fields.Get<int>("max_window_layers", kDefaultMaxWindowLayers) : 0;
  std::vector<bool> windowed;
  for (int i = 0; i < layers; ++i) {
    windowed.push_back(window > 0 && i >= first_windowed && !(IsGranite(family) && i % kGraniteFullEvery == 0));
  }
  const ordered_json* types = fields.Find("layer_types");
  if (types == nullptr) return windowed;
  windowed = ReadLayerTypes(*types, layers, fields.where());
  const auto first = std::find(windowed.begin(), windowed.end(), true);
  const char* why = family == ModelFamily::kLlama              ? "model_type llama has no window"
                    : fields.Find("sliding_window") == nullptr ? "sliding_window is null"
                                                               : "use_sliding_window is false";
  SWARR_CHECK(first == windowed.end() || window > 0, fields.where(), ": layer_types asks for ", kSliding, ", but ", why,
              " (layer ", first - windowed.begin(), ")");
  SWARR_CHECK(first != windowed.end() || window == 0 || family != ModelFamily::kMistral, fields.where(),
              ": sliding_window is ", window, ", but layer_types names ", kFull,
              " for every layer; set sliding_window to null");
  return windowed;
}

std::vector<AttentionSpec> ReadAttention(ConfigFields& fields, ModelFamily family, const ModelConfig& c) {
  const int window = ReadWindow(fields, family, c.max_positions);
  const std::vector<bool> windowed = ReadWindowed(fields, family, c.layers, window);
  const bool any = std::find(windowed.begin(), windowed.end(), true) != windowed.end();
  const ordered_json* text = fields.Find(kSinks);
  const bool prompt = text != nullptr && *text == kPrompt;
  const int sinks = prompt ? 0 : fields.Get<int>(kSinks, 0);
  SWARR_CHECK(any || (sinks == 0 && !prompt), fields.where(), ": ", kSinks, " is ",
              prompt ? kPrompt : std::to_string(sinks), ", but no layer has a window");
  std::vector<AttentionSpec> attention;
  for (bool w : windowed) attention.push_back(w ? AttentionSpec{window, sinks, prompt} : AttentionSpec{});
  return attention;
}

int ReadKvHeads(ConfigFields& fields, ModelFamily family, int heads) {
  if (family == ModelFamily::kLlama || fields.IsNull("num_key_value_heads")) {
    return fields.Get<int>("num_key_value_heads", heads);
  }
  if (IsQwen(family)) return fields.Get<int>("num_key_value_heads");
  return fields.Get<int>("num_key_value_heads", IsGranite(family) ? kGraniteKvHeads : kMistralKvHeads);
}

int ReadHeadDim(ConfigFields& fields, ModelFamily family, const ModelConfig& c) {
  if (fields.Find("head_dim") != nullptr || family == ModelFamily::kQwen3) return fields.Get<int>("head_dim");
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
    const int id = ConfigFields(one, fields.where()).Get<int>(kKey);
    if (config.eos_id < 0) config.eos_id = id;
    if (!config.Stops(id)) config.stop_ids.push_back(id);
  }
}

// Refuses what would make this program compute another model than the file describes.
void CheckSupported(ConfigFields& fields, ModelFamily family) {
  const std::string act = fields.Get<std::string>("hidden_act", "silu");
  const bool silu = act == "silu" || act == "swish";  // two names of one function
  SWARR_CHECK(silu, fields.where(), ": hidden_act '", Excerpt(act), "' is not supported; it must be silu");
  // transformers' Qwen2 has its q/k/v biases whatever a field says.
  const bool bias = fields.Get<bool>("attention_bias", false), mlp_bias = fields.Get<bool>("mlp_bias", false);
  SWARR_CHECK(!bias || family == ModelFamily::kQwen2, fields.where(), ": attention_bias is not supported");
  SWARR_CHECK(!mlp_bias, fields.where(), ": mlp_bias is not supported");
  const ordered_json* quantization = fields.Find("quantization_config");
  SWARR_CHECK(quantization == nullptr || *quantization == ordered_json::object(), fields.where(),
              ": quantized weights are not supported; use the unquantized model");
}

// Granite's own factors of the scores, that GraniteSWA's class takes in place of head_dim^-0.5, and of other numbers.
void CheckGranite(ConfigFields& fields, const ModelConfig& c) {
  for (const char* key : kGraniteMultipliers) {
    const double factor = fields.Get<double>(key, 1.0);
    SWARR_CHECK(factor == 1.0, fields.where(), ": ", key, " is ", factor, ", which is not supported; it must be 1");
  }
  const double factor = fields.Get<double>("attention_multiplier", 1.0), scale = 1 / std::sqrt(c.head_dim);
  SWARR_CHECK(std::abs(factor / scale - 1) < 1e-6, fields.where(), ": attention_multiplier is ", factor,
              ", which is not supported; it must be head_dim^-0.5 = ", scale);
  const ordered_json* thetas = fields.Find("layer_rope_theta");
  const bool same = thetas == nullptr || *thetas == ordered_json(static_cast<std::size_t>(c.layers), c.rope_theta);
  SWARR_CHECK(same, fields.where(), ": layer_rope_theta differs from rope_theta ", c.rope_theta,
              " in some layer, which is not supported");
}

void ValidateAs(const std::string& where, const ModelConfig& config) {
  try {
    config.Validate();
  } catch (const Error& e) {
    throw Error(where + ": " + e.what());
  }
}

// The one window and number of sinks that all windowed layers share; {0, 0} if none is windowed.
AttentionSpec SharedWindow(const std::vector<AttentionSpec>& attention) {
  AttentionSpec shared;
  for (const AttentionSpec& spec : attention) {
    if (spec.window == 0) continue;
    SWARR_CHECK(shared.window == 0 || shared == spec,
                "a config.json can't say that layers have different windows or sinks (", shared.window, " and ",
                spec.window, ", ", shared.sinks, " and ", spec.sinks, "); give all windowed layers the same");
    shared = spec;
  }
  return shared;
}

// Llama has no window, so a Llama with windows is a Mistral, whose layers are the same; both words are right for a
// model without.
ModelFamily FamilyOf(const ModelConfig& config) {
  if (config.learned_sinks) return ModelFamily::kGraniteSwa;
  if (config.qk_norm) return ModelFamily::kQwen3;
  if (config.qkv_bias) return ModelFamily::kQwen2;
  const bool windowed = SharedWindow(config.attention).window > 0;
  return config.model_type == "llama" && !windowed ? ModelFamily::kLlama : ModelFamily::kMistral;
}

void WriteAttention(const ModelConfig& config, ModelFamily family, ordered_json& json) {
  if (family == ModelFamily::kLlama) return;
  const bool qwen = IsQwen(family);
  const AttentionSpec shared = SharedWindow(config.attention);
  ordered_json types = ordered_json::array();
  for (const AttentionSpec& spec : config.attention) types.push_back(spec.window > 0 ? kSliding : kFull);
  const auto is_full = [](const AttentionSpec& spec) { return spec.window == 0; };
  const auto full = std::count_if(config.attention.begin(), config.attention.end(), is_full);
  const auto first_windowed = std::find_if_not(config.attention.begin(), config.attention.end(), is_full);
  const bool mixed = full > 0 && full < config.layers;

  json["sliding_window"] = shared.window > 0 ? ordered_json(shared.window) : ordered_json(nullptr);
  if (qwen) {
    // Versions that don't know layer_types understand "the first k layers are full". For other patterns, a k of all
    // layers is the value that vLLM accepts.
    const bool prefix = full == first_windowed - config.attention.begin();
    json["use_sliding_window"] = shared.window > 0;
    json["max_window_layers"] = prefix ? full : config.layers;
  }
  // Without layer_types a Mistral stays a Mistral for every version; with them it becomes a Ministral.
  if (qwen || mixed || IsGranite(family)) json["layer_types"] = types;
  // transformers makes a mask of GraniteSWA's window even where no layer has one.
  if (IsGranite(family) && shared.window == 0) json["sliding_window"] = config.max_positions;
  if (shared.sinks > 0) json[kSinks] = shared.sinks;
  if (shared.prompt) json[kSinks] = kPrompt;
}

}  // namespace

ModelConfig ParseModelConfig(const ordered_json& json, const std::string& where) {
  ConfigFields fields(json, where);
  ModelConfig c;
  c.model_type = fields.Get<std::string>("model_type");
  const ModelFamily family = ParseFamily(c.model_type, where);
  // Used, since the tensors say the same.
  for (const char* key : {"dtype", "torch_dtype"}) fields.Find(key);
  CheckArchitectures(fields, family);
  CheckSupported(fields, family);

  c.layers = fields.Get<int>("num_hidden_layers");
  // Before one spec for each of them is made; Validate checks the others.
  SWARR_CHECK(c.layers <= kMostLayers, where, ": num_hidden_layers is ", c.layers, "; at most ", kMostLayers,
              " are supported");
  c.hidden = fields.Get<int>("hidden_size");
  c.heads = fields.Get<int>("num_attention_heads");
  c.kv_heads = ReadKvHeads(fields, family, c.heads);
  c.head_dim = ReadHeadDim(fields, family, c);
  c.ffn = fields.Get<int>("intermediate_size");
  c.vocab = fields.Get<int>("vocab_size");
  c.max_positions = fields.Get<int>("max_position_embeddings");
  c.rms_eps = fields.Get<double>("rms_norm_eps");
  ReadRope(fields, c);
  c.tied = fields.Get<bool>("tie_word_embeddings", IsGranite(family));
  c.qk_norm = family == ModelFamily::kQwen3;
  c.qkv_bias = family == ModelFamily::kQwen2;
  c.learned_sinks = IsGranite(family);
  if (IsGranite(family)) CheckGranite(fields, c);
  c.attention = ReadAttention(fields, family, c);
  ReadEos(fields, c);
  ordered_json extra = fields.Unused();
  if (json.contains("eos_token_id") && json["eos_token_id"].is_array()) extra["eos_token_id"] = json["eos_token_id"];
  c.extra = extra.dump();
  ValidateAs(where, c);
  return c;
}

ModelConfig ReadModelConfig(const std::filesystem::path& dir) {
  const auto read = [](const std::filesystem::path& path) {
    return ParseJson<ordered_json>(ReadFile(path, kMostJsonBytes), path.string());
  };
  const std::filesystem::path path = dir / "config.json", generation = dir / "generation_config.json";
  ModelConfig config = ParseModelConfig(read(path), path.string());
  if (!std::filesystem::exists(generation)) return config;
  const ordered_json json = read(generation);
  ConfigFields fields(json, generation.string());
  ReadEos(fields, config);
  ValidateAs(generation.string(), config);
  return config;
}

ordered_json ToJson(const ModelConfig& config, const std::string& dtype) {
  config.Validate();
  SWARR_CHECK(
      !(config.qk_norm && config.qkv_bias),
      "no Hugging Face model type has both q/k norm and q/k/v biases; a config.json for this model can't be written");
  SWARR_CHECK(!config.learned_sinks || (!config.qk_norm && !config.qkv_bias),
              "no Hugging Face model type that is supported has learned sinks beside q/k norm or q/k/v biases, as this "
              "model (a Qwen) would; a config.json for it can't be written");
  const ModelFamily family = FamilyOf(config);
  ordered_json json = {{"architectures", {kArchitectures[static_cast<std::size_t>(family)]}},
                       {"model_type", Name(family)},
                       {"num_hidden_layers", config.layers},
                       {"hidden_size", config.hidden},
                       {"num_attention_heads", config.heads},
                       {"num_key_value_heads", config.kv_heads},
                       {"head_dim", config.head_dim},
                       {"intermediate_size", config.ffn},
                       {"hidden_act", "silu"},
                       {"vocab_size", config.vocab},
                       {"max_position_embeddings", config.max_positions},
                       {"rms_norm_eps", config.rms_eps}};
  WriteRope(config, json);
  json["tie_word_embeddings"] = config.tied;
  WriteAttention(config, family, json);
  if (IsGranite(family)) {
    for (const char* key : kGraniteMultipliers) json[key] = 1.0;
    json["attention_multiplier"] = 1 / std::sqrt(config.head_dim);
  }
  for (const char* key : {"torch_dtype", "dtype"}) json[key] = dtype;
  json["use_cache"] = true;
  // A list of end-of-text ids is kept as long as eos_id is its first. Null, unlike absence, is no class default.
  const ordered_json extra = ordered_json::parse(config.extra);
  const auto several = extra.find("eos_token_id");
  if (several != extra.end() && several->front() == config.eos_id) {
    json["eos_token_id"] = *several;
  } else {
    json["eos_token_id"] = config.eos_id >= 0 ? ordered_json(config.eos_id) : ordered_json(nullptr);
  }
  if (!extra.contains("bos_token_id")) json["bos_token_id"] = nullptr;
  for (const auto& [key, value] : extra.items()) {
    if (!json.contains(key)) json[key] = value;
  }
  return json;
}

}  // namespace swarr
