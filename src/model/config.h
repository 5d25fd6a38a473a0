// SPDX-License-Identifier: Apache-2.0
// What a model is made of. Its spelling in a Hugging Face config.json is in hf_config.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attn/spec.h"
#include "tensor/rope_table.h"

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
  std::optional<Llama3Scaling> rope_scaling{};
  bool tied = false;                       // the LM head is the embedding
  bool qk_norm = false;                    // RMSNorm over each query and key head, before RoPE
  bool qkv_bias = false;                   // biases of the query, key and value projections
  bool learned_sinks = false;              // a logit of each query head beside its keys' (attn/attention.h)
  std::vector<AttentionSpec> attention{};  // one per layer
  int eos_id = -1;                         // end of text; -1 if the model names none
  std::vector<int> stop_ids{};             // further ids that end a text in sampling
  std::string model_type{};                // as it was read; where one model has several names, it is written again
  std::string extra = "{}";                // a JSON object: fields without a meaning here, kept for writing

  // Whether this token ends a sampled text.
  bool Stops(std::int32_t id) const { return id == eos_id || std::ranges::find(stop_ids, id) != stop_ids.end(); }
  // The window that what is to be seen directly must lie in: the smallest of any layer, 0 if all are full.
  int smallest_window() const {
    int smallest = 0;
    for (const AttentionSpec& spec : attention) {
      if (spec.window > 0 && (smallest == 0 || spec.window < smallest)) smallest = spec.window;
    }
    return smallest;
  }
  // Throws, naming the field, unless the sizes are positive and fit each other and every layer's attention makes sense.
  void Validate() const;
};

}  // namespace swarr
