// SPDX-License-Identifier: Apache-2.0
// What a model is made of, and its spelling in a Hugging Face config.json.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attn/spec.h"

namespace swarr {

// A decoder-only transformer: embedding; per layer RMSNorm, grouped-query attention with RoPE, RMSNorm, SwiGLU;
// RMSNorm; LM head. Sizes count elements.
struct ModelConfig {
  int layers = 0;
  int hidden = 0;    // C
  int heads = 0;     // query heads
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // even; need not be hidden / heads
  int ffn = 0;
  int vocab = 0;
  int max_positions = 0;  // tokens of the longest sequence
  double rms_eps = 1e-6;
  double rope_theta = 10000.0;
  bool tied = false;                                                // the LM head is the embedding
  bool qk_norm = false;                                             // RMSNorm over each query and key head, before RoPE
  bool qkv_bias = false;                                            // biases of the query, key and value projections
  std::vector<AttentionSpec> attention;                             // one per layer
  int eos_id = -1;                                                  // end of text; -1 if the model names none
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();  // fields without a meaning here, kept for writing

  // Throws, naming the field, unless the sizes are positive and fit each other and every layer's attention makes sense.
  void Validate() const;
};

// Reads dir/config.json. model_type llama (full attention only), mistral, ministral, qwen2 or qwen3; the attention of
// every layer is resolved as transformers does, fields that are absent take its class defaults. sliding_window counts
// the current token. `swarr_attention_sinks` gives the windowed layers sinks. What this program can't compute (other
// activations, RoPE scaling, biases elsewhere) is refused by name, as is a contradiction between fields.
ModelConfig ReadModelConfig(const std::filesystem::path& dir);
// The same from the JSON; `where` opens the sentence of every error.
ModelConfig ParseModelConfig(const nlohmann::ordered_json& json, const std::string& where);

// The config.json that makes transformers compute the same model (except for sinks, which it does not know):
// model_type qwen3 with q/k norm, qwen2 with biases, mistral with neither. RoPE and dtype in the old and the new
// spelling. Throws if no family has this combination, or if windowed layers differ in window or sinks.
nlohmann::ordered_json ToJson(const ModelConfig& config);

}  // namespace swarr
