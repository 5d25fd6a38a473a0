// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding in a config.json. transformers 4 writes `rope_theta` and, for scaling, `rope_scaling`
// {"rope_type", ...} (older: "type"); transformers 5 writes `rope_parameters` with all of it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "model/config_fields.h"
#include "tensor/rope_table.h"

namespace swarr {

struct RopeSettings {
  double theta = 10000.0;  // transformers' class default
  std::optional<Llama3Scaling> scaling;
};

// All spellings that occur must agree. Throws on any type but `default` and `llama3`, by its name, and on settings that
// belong to neither.
RopeSettings ReadRope(ConfigFields& fields);

// Both spellings, since each version of transformers falls back to defaults, in silence, without its own.
void WriteRope(const RopeSettings& rope, nlohmann::ordered_json& json);

}  // namespace swarr
