// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/files.h"
#include "fuzz/harnesses.h"
#include "model/hf_config.h"

namespace swarr::fuzz {

void FuzzConfig(std::string_view input) {
  const ModelConfig config = ParseModelConfig(ParseJson<nlohmann::ordered_json>(input, "config.json"), "config.json");
  const nlohmann::ordered_json written = ToJson(config);
  const ModelConfig again = ParseModelConfig(written, "written");
  const bool same = again.attention == config.attention && again.rope_scaling == config.rope_scaling &&
                    again.rope_theta == config.rope_theta && ToJson(again) == written;
  if (!same) throw std::logic_error("a config.json that was written is another model: " + written.dump());
}

}  // namespace swarr::fuzz
