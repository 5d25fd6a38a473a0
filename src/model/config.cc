// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// transformers' class defaults for fields that a config.json may leave out.
constexpr int kDefaultWindow = 4096;
constexpr int kDefaultMaxWindowLayers = 28;
constexpr int kMistralKvHeads = 8;

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr const char* kSinks = "swarr_attention_sinks";

// Checked access to the fields of config.json. Null counts as absent. Remembers which fields were asked for: the others
// are `extra`.
class Fields {
 public:
  Fields(const ordered_json& json, std::string where) : json_(json), where_(std::move(where)) {
    SWARR_CHECK(json.is_object(), where_, " holds no JSON object");
  }
  const std::string& where() const { return where_; }

  // The field's value, or nullptr where it is absent or null.
  const ordered_json* Find(const char* key) {
    used_.insert(key);
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  // Whether the field is there and null, where that differs from absence.
  bool IsNull(const char* key) { return Find(key) == nullptr && json_.contains(key); }

  int Int(const char* key, std::optional<int> fallback = std::nullopt) {
    const ordered_json* value = FindOr(key, fallback.has_value());
    if (value == nullptr) return *fallback;
    constexpr int kMax = std::numeric_limits<int>::max();
    SWARR_CHECK(value->is_number_integer() && *value >= 0 && *value <= kMax, where_, ": ", key, " is ", value->dump(),
                " where an integer from 0 to ", kMax, " is needed");
    return value->get<int>();
  }
  double Double(const char* key, std::optional<double> fallback = std::nullopt) {
    const ordered_json* value = FindOr(key, fallback.has_value());
    if (value == nullptr) return *fallback;
    SWARR_CHECK(value->is_number(), where_, ": ", key, " is ", value->dump(), " where a number is needed");
    return value->get<double>();
  }
  bool Bool(const char* key, bool fallback) {
    const ordered_json* value = FindOr(key, true);
    if (value == nullptr) return fallback;
    SWARR_CHECK(value->is_boolean(), where_, ": ", key, " is ", value->dump(), " where true or false is needed");
    return value->get<bool>();
  }
  std::string String(const char* key, std::optional<std::string> fallback = std::nullopt) {
    const ordered_json* value = FindOr(key, fallback.has_value());
    if (value == nullptr) return *fallback;
    SWARR_CHECK(value->is_string(), where_, ": ", key, " is ", value->dump(), " where a string is needed");
    return value->get<std::string>();
  }

  ordered_json Unused() const {
    ordered_json unused = ordered_json::object();
    for (const auto& [key, value] : json_.items()) {
      if (!used_.contains(key)) unused[key] = value;
    }
    return unused;
  }

 private:
  const ordered_json* FindOr(const char* key, bool optional) {
    const ordered_json* value = Find(key);
    SWARR_CHECK(value != nullptr || optional, where_, ": the field ", key, " is missing");
    return value;
  }

  const ordered_json& json_;
  std::string where_;
  std::set<std::string> used_;
};

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

// The base of RoPE from `rope_theta`, `rope_scaling` and `rope_parameters`: all spellings that occur must agree.
double ReadRopeTheta(Fields& fields) {
  constexpr double kDefaultTheta = 10000.0;
  std::optional<double> theta;
  if (fields.Find("rope_theta") != nullptr) theta = fields.Double("rope_theta");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ordered_json* value = fields.Find(key);
    if (value == nullptr) continue;
    Fields rope(*value, fields.where() + ": " + key);
    for (const char* name : {"rope_type", "type"}) {
      const std::string type = rope.String(name, "default");
      SWARR_CHECK(type == "default", fields.where(), ": RoPE of type '", type, "' is not supported");
    }
    if (rope.Find("rope_theta") != nullptr) {
      const double inner = rope.Double("rope_theta");
      SWARR_CHECK(!theta || *theta == inner, fields.where(), ": rope_theta is ", *theta, ", but ", inner, " in ", key);
      theta = inner;
    }
    const ordered_json unused = rope.Unused();
    SWARR_CHECK(unused.empty(), fields.where(), ": the RoPE setting '", unused.begin().key(), "' is not supported");
  }
  return theta.value_or(kDefaultTheta);
}

bool IsQwen(Family family) { return family == Family::kQwen2 || family == Family::kQwen3; }

// transformers' window: `sliding_window`, null for none; Qwen looks at it only where use_sliding_window is true.
int ReadWindow(Fields& fields, Family family) {
  const bool none = fields.IsNull("sliding_window");
  if (family == Family::kLlama) {
    SWARR_CHECK(none || fields.Find("sliding_window") == nullptr, fields.where(),
                ": model_type llama has no sliding_window; the same model with a window is model_type mistral");
    return 0;
  }
  const int window = none ? 0 : fields.Int("sliding_window", kDefaultWindow);
  SWARR_CHECK(none || window >= 1, fields.where(), ": sliding_window must be at least 1, or null for full attention");
  const bool use = fields.Bool("use_sliding_window", !IsQwen(family));
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

std::vector<AttentionSpec> ReadAttention(Fields& fields, Family family, int layers) {
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

int ReadKvHeads(Fields& fields, Family family, int heads) {
  if (family == Family::kLlama || fields.IsNull("num_key_value_heads")) return fields.Int("num_key_value_heads", heads);
  return family == Family::kMistral ? fields.Int("num_key_value_heads", kMistralKvHeads)
                                    : fields.Int("num_key_value_heads");
}

int ReadHeadDim(Fields& fields, Family family, const ModelConfig& c) {
  if (fields.Find("head_dim") != nullptr || family == Family::kQwen3) return fields.Int("head_dim");
  SWARR_CHECK(c.heads > 0 && c.hidden % c.heads == 0, fields.where(), ": hidden_size ", c.hidden,
              " is no multiple of num_attention_heads ", c.heads, "; name the head_dim");
  return c.hidden / c.heads;
}

// The end-of-text id; of several, the first.
int ReadEos(Fields& fields) {
  const ordered_json* eos = fields.Find("eos_token_id");
  if (eos == nullptr || !eos->is_array() || eos->empty()) return fields.Int("eos_token_id", -1);
  const ordered_json first = {{"eos_token_id", eos->front()}};
  return Fields(first, fields.where()).Int("eos_token_id");
}

// Refuses what would make this program compute another model than the file describes.
void CheckSupported(Fields& fields) {
  const std::string act = fields.String("hidden_act", "silu");
  SWARR_CHECK(act == "silu", fields.where(), ": hidden_act '", act, "' is not supported; it must be silu");
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    SWARR_CHECK(!fields.Bool(key, false), fields.where(), ": ", key, " is not supported");
  }
  SWARR_CHECK(fields.Find("quantization_config") == nullptr, fields.where(),
              ": quantized weights are not supported; use the unquantized model");
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

void WriteAttention(const ModelConfig& config, bool qwen, ordered_json& json) {
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
  if (qwen || mixed) json["layer_types"] = types;
  if (shared.sinks > 0) json[kSinks] = shared.sinks;
}

}  // namespace

void ModelConfig::Validate() const {
  const std::array<std::pair<const char*, int>, 8> sizes = {{{"num_hidden_layers", layers},
                                                             {"hidden_size", hidden},
                                                             {"num_attention_heads", heads},
                                                             {"num_key_value_heads", kv_heads},
                                                             {"head_dim", head_dim},
                                                             {"intermediate_size", ffn},
                                                             {"vocab_size", vocab},
                                                             {"max_position_embeddings", max_positions}}};
  for (const auto& [name, value] : sizes) SWARR_CHECK(value >= 1, name, " must be at least 1, not ", value);
  SWARR_CHECK(heads % kv_heads == 0, "num_attention_heads ", heads, " is no multiple of num_key_value_heads ",
              kv_heads);
  SWARR_CHECK(head_dim % 2 == 0, "head_dim ", head_dim, " is odd, but RoPE turns pairs");
  SWARR_CHECK(std::isfinite(rms_eps) && rms_eps > 0, "rms_norm_eps must be positive, not ", rms_eps);
  SWARR_CHECK(std::isfinite(rope_theta) && rope_theta > 0, "rope_theta must be positive, not ", rope_theta);
  SWARR_CHECK(eos_id >= -1 && eos_id < vocab, "eos_token_id ", eos_id, " is no id of a vocabulary of ", vocab);
  SWARR_CHECK(attention.size() == static_cast<std::size_t>(layers), "the attention of ", attention.size(),
              " layers is given for ", layers, " layers");
  for (std::size_t i = 0; i < attention.size(); ++i) {
    const auto [window, sinks] = attention[i];
    SWARR_CHECK(window >= 0 && sinks >= 0, "layer ", i, " has window ", window, " and ", sinks,
                " sinks, which can't be negative");
    SWARR_CHECK(window > 0 || sinks == 0, "layer ", i, " has ", sinks, " sinks but no window");
  }
}

ModelConfig ParseModelConfig(const ordered_json& json, const std::string& where) {
  Fields fields(json, where);
  const Family family = ParseFamily(fields.String("model_type"), where);
  fields.Find("architectures");                                       // follows from the family
  for (const char* key : {"dtype", "torch_dtype"}) fields.Find(key);  // the tensors say it themselves
  CheckSupported(fields);

  ModelConfig c;
  c.layers = fields.Int("num_hidden_layers");
  c.hidden = fields.Int("hidden_size");
  c.heads = fields.Int("num_attention_heads");
  c.kv_heads = ReadKvHeads(fields, family, c.heads);
  c.head_dim = ReadHeadDim(fields, family, c);
  c.ffn = fields.Int("intermediate_size");
  c.vocab = fields.Int("vocab_size");
  c.max_positions = fields.Int("max_position_embeddings");
  c.rms_eps = fields.Double("rms_norm_eps");
  c.rope_theta = ReadRopeTheta(fields);
  c.tied = fields.Bool("tie_word_embeddings", false);
  c.qk_norm = family == Family::kQwen3;
  c.qkv_bias = family == Family::kQwen2;
  c.attention = ReadAttention(fields, family, c.layers);
  c.eos_id = ReadEos(fields);
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
  return ParseModelConfig(ParseJson<ordered_json>(ReadFile(path), path.string()), path.string());
}

ordered_json ToJson(const ModelConfig& config) {
  config.Validate();
  SWARR_CHECK(
      !(config.qk_norm && config.qkv_bias),
      "no Hugging Face model type has both q/k norm and q/k/v biases; a config.json for this model can't be written");
  const bool qwen = config.qk_norm || config.qkv_bias;
  ordered_json json;
  json["architectures"] = {config.qk_norm ? "Qwen3ForCausalLM" : qwen ? "Qwen2ForCausalLM" : "MistralForCausalLM"};
  json["model_type"] = config.qk_norm ? "qwen3" : qwen ? "qwen2" : "mistral";
  json["num_hidden_layers"] = config.layers;
  json["hidden_size"] = config.hidden;
  json["num_attention_heads"] = config.heads;
  json["num_key_value_heads"] = config.kv_heads;
  json["head_dim"] = config.head_dim;
  json["intermediate_size"] = config.ffn;
  json["hidden_act"] = "silu";
  json["vocab_size"] = config.vocab;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = config.rms_eps;
  json["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", config.rope_theta}};
  json["tie_word_embeddings"] = config.tied;
  WriteAttention(config, qwen, json);
  for (const char* key : {"torch_dtype", "dtype"}) json[key] = "float32";
  json["use_cache"] = true;
  // A list of end-of-text ids is kept as long as eos_id is its first. Null, unlike absence, is no class default.
  const auto several = config.extra.find("eos_token_id");
  if (several != config.extra.end() && several->front() == config.eos_id) {
    json["eos_token_id"] = *several;
  } else {
    json["eos_token_id"] = config.eos_id >= 0 ? ordered_json(config.eos_id) : ordered_json(nullptr);
  }
  if (!config.extra.contains("bos_token_id")) json["bos_token_id"] = nullptr;
  for (const auto& [key, value] : config.extra.items()) {
    if (!json.contains(key)) json[key] = value;
  }
  return json;
}

}  // namespace swarr
