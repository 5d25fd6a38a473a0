// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "model/hf_config.h"
#include "model/hf_rope.h"
#include "tensor/check.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr const char* kSinks = "swarr_attention_sinks";

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

struct ModelType {
  const char* name;
  const char* architecture;
  bool qwen = false, llama = false;
};

// Llama has no window, so a Llama with windows is a Mistral, whose layers are the same; both words are right for a
// model without.
ModelType TypeOf(const ModelConfig& config) {
  if (config.qk_norm) return {"qwen3", "Qwen3ForCausalLM", true};
  if (config.qkv_bias) return {"qwen2", "Qwen2ForCausalLM", true};
  const bool windowed = SharedWindow(config.attention).window > 0;
  if (config.model_type == "llama" && !windowed) return {"llama", "LlamaForCausalLM", false, true};
  return {"mistral", "MistralForCausalLM"};
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

ordered_json ToJson(const ModelConfig& config, const std::string& dtype) {
  config.Validate();
  SWARR_CHECK(
      !(config.qk_norm && config.qkv_bias),
      "no Hugging Face model type has both q/k norm and q/k/v biases; a config.json for this model can't be written");
  const ModelType type = TypeOf(config);
  ordered_json json;
  json["architectures"] = {type.architecture};
  json["model_type"] = type.name;
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
  WriteRope({config.rope_theta, config.rope_scaling}, json);
  json["tie_word_embeddings"] = config.tied;
  if (!type.llama) WriteAttention(config, type.qwen, json);
  for (const char* key : {"torch_dtype", "dtype"}) json[key] = dtype;
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
