// SPDX-License-Identifier: Apache-2.0
// A small model under any rule of who sees whom, for mistakes that no other config, weights or inputs make: those of
// caches (decode.cc) and of packed rows (model.cc). It is made of the ops that models are made of, but for attention,
// which is the plain definition's. Where the rule is the model's own, a test holds it to the model.
#pragma once

#include <functional>

#include "model/transformer.h"

namespace swarr::oracle {

struct MaskedRows {
  std::vector<std::int32_t> tokens, positions;  // of every row; positions are what RoPE turns by
  // Whether a row sees the key of another, or its own, in a layer with this attention.
  std::function<bool(const AttentionSpec& spec, std::int64_t row, std::int64_t key)> sees;
};

// Hidden states [N, C] after the last norm, recorded if a tape is live. The model is in f64 and without learned sinks.
Var MaskedForward(Context& ctx, const Transformer& model, const MaskedRows& rows);

}  // namespace swarr::oracle
