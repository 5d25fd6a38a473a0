// SPDX-License-Identifier: Apache-2.0
// A model's spelling in a Hugging Face config.json, of transformers 4 and 5.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "model/config.h"

namespace swarr {

// Reads dir/config.json, and from dir/generation_config.json, if there is one, the ids that end a text. model_type
// llama (full attention only), mistral, ministral, qwen2, qwen3 or granite_swa (learned sinks; its multipliers must
// leave the numbers as they are); the attention of every layer is resolved as transformers does, fields that are absent
// take its class defaults. sliding_window counts the current token. `swarr_attention_sinks` gives the windowed layers
// sinks: a number, or "prompt" for each text's own prompt. What this program can't compute (other activations, other
// RoPE scalings than llama3, biases elsewhere) is refused by name, as is a contradiction between fields. Throws Error.
ModelConfig ReadModelConfig(const std::filesystem::path& dir);
// The same from the JSON of config.json; `where` opens the sentence of every error. Of several ids in eos_token_id the
// first is eos_id, the others are stop_ids.
ModelConfig ParseModelConfig(const nlohmann::ordered_json& json, const std::string& where);

// The config.json that makes transformers compute the same model (except for sinks, which it does not know):
// model_type qwen3 with q/k norm, qwen2 with biases, granite_swa with learned sinks; of the others mistral, but llama
// for what was read as llama and has no window. RoPE and dtype in the old and the new spelling; `dtype` is Hugging
// Face's name of what the weights are stored in. Fields without a meaning here are kept; stop_ids are not written: they
// come from files that are kept as they are. Throws if no family has this combination, or if windowed layers differ in
// window or sinks.
nlohmann::ordered_json ToJson(const ModelConfig& config, const std::string& dtype = "float32");
// The value of rope_scaling; null without scaling.
nlohmann::ordered_json ToJson(const std::optional<Llama3Scaling>& scaling);

}  // namespace swarr
