// SPDX-License-Identifier: Apache-2.0
// RoPE in a Hugging Face config.json. transformers 4 writes `rope_theta` and, for scaling, `rope_scaling` {"rope_type",
// ...} (older: "type"); transformers 5 writes `rope_parameters` with all of it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "model/config.h"
#include "model/config_fields.h"

namespace swarr {

// Sets rope_theta and rope_scaling of `config`, whose max_positions is set. All spellings that occur must agree, also
// with an original_max_position_embeddings outside of them. Types are default and llama3, and those that at factor 1
// are no other than default. What belongs to none of these is refused by its name, unless its value says that it does
// nothing. Throws Error.
void ReadRope(ConfigFields& fields, ModelConfig& config);

// Both spellings, since each version of transformers falls back to defaults, in silence, without its own.
void WriteRope(const ModelConfig& config, nlohmann::ordered_json& json);

}  // namespace swarr
