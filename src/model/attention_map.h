// SPDX-License-Identifier: Apache-2.0
// What the layers of a model attend to in one text. The attention kernel keeps no weights; they are computed again from
// queries and keys, by the definition in attn/attention.h, for looking at.
#pragma once

#include <cstdint>
#include <vector>

#include "model/transformer.h"

namespace swarr {

// Of one layer over T tokens.
struct AttentionMap {
  int tokens = 0;
  std::vector<double> weights;  // [T, T]: query, key; means over the heads; 0 where the key is not seen

  double at(int query, int key) const {
    return weights[static_cast<std::size_t>(query) * static_cast<std::size_t>(tokens) + static_cast<std::size_t>(key)];
  }
};

// The map of every layer, under the attention that the model has now. The first `prompt` tokens are the prompt. With
// learned sinks a row sums to less than 1. O(T^2) memory. Throws as Transformer::Check does.
std::vector<AttentionMap> AttentionMaps(Context& ctx, const Transformer& model, const std::vector<std::int32_t>& tokens,
                                        int prompt);

}  // namespace swarr
