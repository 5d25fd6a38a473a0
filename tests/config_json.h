// SPDX-License-Identifier: Apache-2.0
// A config.json that a test may change.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace swarr {

// The fields that every family must have, for a model of four layers.
inline nlohmann::ordered_json Fields(const std::string& model_type) {
  return {{"model_type", model_type},    {"num_hidden_layers", 4},    {"hidden_size", 48},
          {"num_attention_heads", 6},    {"num_key_value_heads", 2},  {"head_dim", 16},
          {"intermediate_size", 100},    {"vocab_size", 30},          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},        {"rope_theta", 5000.0},      {"hidden_act", "silu"},
          {"tie_word_embeddings", true}, {"sliding_window", nullptr}, {"eos_token_id", 2}};
}

inline nlohmann::ordered_json With(nlohmann::ordered_json json, const nlohmann::ordered_json& changes) {
  for (const auto& [key, value] : changes.items()) json[key] = value;
  return json;
}

inline nlohmann::ordered_json Without(nlohmann::ordered_json json, const char* key) {
  json.erase(key);
  return json;
}

}  // namespace swarr
