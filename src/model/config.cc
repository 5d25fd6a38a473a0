// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <array>
#include <cmath>
#include <tuple>

#include "base/check.h"
#include "model/limits.h"

namespace swarr {

void ModelConfig::Validate() const {
  const std::array<std::tuple<const char*, int, int>, 8> sizes = {
      {{"num_hidden_layers", layers, kMostLayers},
       {"hidden_size", hidden, kMostWidth},
       {"num_attention_heads", heads, kMostWidth},
       {"num_key_value_heads", kv_heads, kMostWidth},
       {"head_dim", head_dim, kMostWidth},
       {"intermediate_size", ffn, kMostWidth},
       {"vocab_size", vocab, kMostIds},
       {"max_position_embeddings", max_positions, kMostPositions}}};
  for (const auto& [name, value, most] : sizes) {
    SWARR_CHECK(value >= 1, name, " must be at least 1, not ", value);
    SWARR_CHECK(value <= most, name, " is ", value, "; at most ", most, " are supported");
  }
  SWARR_CHECK(std::int64_t{heads} * head_dim <= kMostWidth, "num_attention_heads ", heads, " times head_dim ", head_dim,
              " is more than the ", kMostWidth, " that are supported");
  SWARR_CHECK(heads % kv_heads == 0, "num_attention_heads ", heads, " is no multiple of num_key_value_heads ",
              kv_heads);
  SWARR_CHECK(head_dim % 2 == 0, "head_dim ", head_dim, " is odd, but RoPE turns pairs");
  SWARR_CHECK(std::isfinite(rms_eps) && rms_eps > 0, "rms_norm_eps must be positive, not ", rms_eps);
  SWARR_CHECK(std::isfinite(rope_theta) && rope_theta > 0, "rope_theta must be positive, not ", rope_theta);
  SWARR_CHECK(eos_id >= -1 && eos_id < vocab, "eos_token_id ", eos_id, " is no id of a vocabulary of ", vocab);
  for (const int id : stop_ids) {
    SWARR_CHECK(id >= 0 && id < vocab, "eos_token_id ", id, " is no id of a vocabulary of ", vocab);
  }
  SWARR_CHECK(attention.size() == static_cast<std::size_t>(layers), "the attention of ", attention.size(),
              " layers is given for ", layers, " layers");
  for (std::size_t i = 0; i < attention.size(); ++i) {
    const auto [window, sinks, prompt] = attention[i];
    SWARR_CHECK(window >= 0 && sinks >= 0, "layer ", i, " has window ", window, " and ", sinks,
                " sinks, which can't be negative");
    SWARR_CHECK(window > 0 || sinks == 0, "layer ", i, " has ", sinks, " sinks but no window");
    SWARR_CHECK(!prompt || (window > 0 && sinks == 0), "layer ", i,
                " keeps the prompt visible, which goes with a window and without a number of sinks");
  }
}

}  // namespace swarr
