// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <functional>

#include "oracle/small_models.h"

namespace swarr::oracle {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// --- weights: all whose name contains `part` ---

template <class F>
void ForWeights(Values& weights, std::string_view part, const F& f) {
  for (auto& [name, value] : weights) {
    if (name.find(part) != std::string::npos) f(value);
  }
}

void Scale(Values& weights, std::string_view part, double factor) {
  ForWeights(weights, part, [&](Value& value) {
    for (double& x : value.data) x *= factor;
  });
}

void SwapWeights(Values& weights, std::string_view a, std::string_view b) {
  for (auto& [name, value] : weights) {
    const std::size_t at = name.find(a);
    if (at != std::string::npos) std::swap(value, weights.at(std::string(name).replace(at, a.size(), b)));
  }
}

// Element i of the new order is element order[i] of the old one.
using Order = std::vector<std::int64_t>;

Order Inverse(const Order& order) {
  Order inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    inverse[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
  }
  return inverse;
}

void ReorderRows(Values& weights, std::string_view part, const Order& order) {
  ForWeights(weights, part, [&](Value& value) {
    const auto width = static_cast<std::int64_t>(value.data.size()) / value.dim(0);
    const std::vector<double> old = value.data;
    for (std::int64_t i = 0; i < value.dim(0); ++i) {
      const auto from = old.begin() + order[static_cast<std::size_t>(i)] * width;
      std::copy(from, from + width, value.data.begin() + i * width);
    }
  });
}

void ReorderColumns(Values& weights, std::string_view part, const Order& order) {
  ForWeights(weights, part, [&](Value& value) {
    const std::vector<double> old = value.data;
    const auto width = static_cast<std::size_t>(value.dim(1));
    for (std::size_t i = 0; i < value.data.size(); ++i) {
      value.data[i] = old[i - i % width + static_cast<std::size_t>(order[i % width])];
    }
  });
}

// --- changes ---

// With pairs (2i, 2i + 1) in the places (i, i + D/2), half-split RoPE turns what interleaved RoPE turns; scores are the
// same for any order of a head's elements that queries and keys share.
Order PairsApart(std::int64_t heads, std::int64_t D) {
  Order order;
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t i = 0; i < D; ++i) order.push_back(h * D + (i < D / 2 ? 2 * i : 2 * i - D + 1));
  }
  return order;
}

void ReorderPairs(const ModelConfig& c, Values& weights, bool back) {
  const auto order = [&](int heads) {
    const Order apart = PairsApart(heads, c.head_dim);
    return back ? Inverse(apart) : apart;
  };
  ReorderRows(weights, ".q_proj.", order(c.heads));
  ReorderRows(weights, ".k_proj.", order(c.kv_heads));
  ReorderRows(weights, ".q_norm.", order(1));
  ReorderRows(weights, ".k_norm.", order(1));
}

// Query head h goes to a place that reads key head h mod G.
void ReorderQueryHeads(const ModelConfig& c, Values& weights, bool back) {
  const std::int64_t group = c.heads / c.kv_heads, D = c.head_dim;
  Order order;
  for (std::int64_t place = 0; place < c.heads; ++place) {
    const std::int64_t head = place / group + place % group * c.kv_heads;
    for (std::int64_t d = 0; d < D; ++d) order.push_back(head * D + d);
  }
  if (back) order = Inverse(order);
  ReorderRows(weights, ".q_proj.", order);
  ReorderColumns(weights, ".o_proj.", order);
}

void ScaleScores(const ModelConfig& c, Values& weights, double factor) {
  Scale(weights, c.qk_norm ? ".q_norm." : ".q_proj.", factor);
}

void Untie(ModelConfig& c, Values& weights) {
  if (!c.tied) return;
  c.tied = false;
  weights[kHead] = weights.at(kEmbedding);
}

void TieGradients(const ModelConfig& right, Values& gradients) {
  if (!right.tied) return;
  std::vector<double>& sum = gradients.at(kEmbedding).data;
  const std::vector<double>& head = gradients.at(kHead).data;
  std::transform(sum.begin(), sum.end(), head.begin(), sum.begin(), std::plus<>());
}

// Changes the attention of layers with a window.
template <class F>
void ChangeWindows(ModelConfig& c, const F& f) {
  for (AttentionSpec& spec : c.attention) {
    if (spec.window > 0) f(spec);
  }
}

double EmbeddingScale(const ModelConfig& c) { return std::sqrt(static_cast<double>(c.hidden)); }
double ScoreScale(const ModelConfig& c) { return std::sqrt(static_cast<double>(c.head_dim)); }

}  // namespace

const std::vector<ModelMistake>& AttentionMistakes() {
  static const std::vector<ModelMistake> mistakes = {
      {"windows of W+1 keys",
       [](ModelConfig& c, Values&) { ChangeWindows(c, [](AttentionSpec& spec) { ++spec.window; }); }},
      {"windows of W-1 keys",
       [](ModelConfig& c, Values&) { ChangeWindows(c, [](AttentionSpec& spec) { --spec.window; }); }},
      {"windows ignored: full attention in all layers",
       [](ModelConfig& c, Values&) { ChangeWindows(c, [](AttentionSpec& spec) { spec = {}; }); }},
      {"windows of the layers shifted by one layer",
       [](ModelConfig& c, Values&) { std::rotate(c.attention.begin(), c.attention.begin() + 1, c.attention.end()); }},
      {"the window in layers of full attention too",
       [](ModelConfig& c, Values&) {
         const AttentionSpec widest =
             *std::max_element(c.attention.begin(), c.attention.end(),
                               [](const AttentionSpec& a, const AttentionSpec& b) { return a.window < b.window; });
         for (AttentionSpec& spec : c.attention) spec = spec.window == 0 ? widest : spec;
       }},
      {"sinks missing", [](ModelConfig& c, Values&) { ChangeWindows(c, [](AttentionSpec& spec) { spec.sinks = 0; }); }},
      {"sinks counted inside the window",
       [](ModelConfig& c, Values&) {
         ChangeWindows(c, [](AttentionSpec& spec) { spec.window = std::max(1, spec.window - spec.sinks); });
       }},
      {"RoPE with a theta of 10000 whatever is given", [](ModelConfig& c, Values&) { c.rope_theta = 10000; }},
      {"RoPE of interleaved pairs (2i, 2i + 1)",
       [](ModelConfig& c, Values& weights) { ReorderPairs(c, weights, false); },
       [](const ModelConfig& c, Values& gradients) { ReorderPairs(c, gradients, true); }},
      {"key heads interleaved: query head h reads key head h mod G",
       [](ModelConfig& c, Values& weights) { ReorderQueryHeads(c, weights, false); },
       [](const ModelConfig& c, Values& gradients) { ReorderQueryHeads(c, gradients, true); }},
      {"scores without the scale 1/sqrt(D)",
       [](ModelConfig& c, Values& weights) { ScaleScores(c, weights, ScoreScale(c)); },
       [](const ModelConfig& c, Values& gradients) { ScaleScores(c, gradients, ScoreScale(c)); }},
  };
  return mistakes;
}

const std::vector<ModelMistake>& LayerMistakes() {
  static const std::vector<ModelMistake> mistakes = {
      {"no norm of queries and keys", [](ModelConfig& c, Values&) { c.qk_norm = false; }},
      {"biases of q, k and v ignored", [](ModelConfig& c, Values&) { c.qkv_bias = false; }},
      {"norms with an eps of 1e-6 whatever is given", [](ModelConfig& c, Values&) { c.rms_eps = 1e-6; }},
      {"norm weights taken as 1 + w (Gemma)",
       [](ModelConfig&, Values& weights) {
         ForWeights(weights, "norm.", [](Value& value) {
           for (double& x : value.data) x += 1;
         });
       }},
      {"the two norms of a layer swapped",
       [](ModelConfig&, Values& weights) { SwapWeights(weights, "input_layernorm", "post_attention_layernorm"); },
       [](const ModelConfig&, Values& gradients) {
         SwapWeights(gradients, "input_layernorm", "post_attention_layernorm");
       }},
      {"embeddings multiplied by sqrt(C) (Gemma)",
       [](ModelConfig& c, Values& weights) {
         Untie(c, weights);
         Scale(weights, kEmbedding, EmbeddingScale(c));
       },
       [](const ModelConfig& c, Values& gradients) {
         Scale(gradients, kEmbedding, EmbeddingScale(c));
         TieGradients(c, gradients);
       }},
      {"gate and up swapped", [](ModelConfig&, Values& weights) { SwapWeights(weights, "gate_proj", "up_proj"); },
       [](const ModelConfig&, Values& gradients) { SwapWeights(gradients, "gate_proj", "up_proj"); }},
      {"the gradient of a tied embedding without the head's part", Untie},
      {"the gradient of a tied embedding from the head alone", Untie,
       [](const ModelConfig& c, Values& gradients) {
         if (c.tied) gradients.at(kEmbedding) = gradients.at(kHead);
       }},
  };
  return mistakes;
}

}  // namespace swarr::oracle
