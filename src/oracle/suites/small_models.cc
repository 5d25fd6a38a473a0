// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/small_models.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "tensor/ops.h"

namespace swarr::oracle {
namespace {

Value WeightOf(PhiloxStream& random, const ParameterShape& shape) {
  if (shape.shape.size() == 1) {
    Value value = RandomNormal(random, shape.shape, 0.25);
    const bool is_norm = !shape.name.ends_with(".bias");
    // 1 + n on a grid of 1/64: 8 significant bits up to 4.
    for (double& x : value.data) x = is_norm ? std::round((1 + x) * 64) / 64 : x;
    return value;
  }
  // Small enough for bf16 to tell the mistakes apart: what layers add to the embedding, and scores, are below 1.
  double scale = 0.5;
  if (shape.name.ends_with("embed_tokens.weight")) scale = 1;
  if (shape.name.ends_with("q_proj.weight") || shape.name.ends_with("k_proj.weight")) scale = 0.25;
  if (shape.name.ends_with("o_proj.weight") || shape.name.ends_with("down_proj.weight")) scale = 0.125;
  return RandomNormal(random, shape.shape, scale);
}

// Calls visit(name in config.json, field) for all fields but those of the layers' attention.
template <class Config, class F>
void ForEachField(Config& c, const F& visit) {
  visit("num_hidden_layers", c.layers);
  visit("hidden_size", c.hidden);
  visit("num_attention_heads", c.heads);
  visit("num_key_value_heads", c.kv_heads);
  visit("head_dim", c.head_dim);
  visit("intermediate_size", c.ffn);
  visit("vocab_size", c.vocab);
  visit("max_position_embeddings", c.max_positions);
  visit("rms_norm_eps", c.rms_eps);
  visit("rope_theta", c.rope_theta);
  visit("tie_word_embeddings", c.tied);
  visit("qk_norm", c.qk_norm);
  visit("qkv_bias", c.qkv_bias);
  visit("eos_token_id", c.eos_id);
}

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// --- mistakes: weights, all whose name contains `part` ---

template <class F>
void ForWeights(Values& weights, std::string_view part, const F& f) {
  for (auto& [name, value] : weights) {
    if (name.find(part) != std::string::npos) f(value);
  }
}

void Scale(Values& weights, std::string_view part, double factor) {
  ForWeights(weights, part, [&](Value& value) { value = Scaled(value, factor); });
}

void SwapWeights(Values& weights, std::string_view a, std::string_view b) {
  for (auto& [name, value] : weights) {
    const std::size_t at = name.find(a);
    if (at != std::string::npos) std::swap(value, weights.at(std::string(name).replace(at, a.size(), b)));
  }
}

void ReorderRows(Values& weights, std::string_view part, const Order& order) {
  ForWeights(weights, part, [&](Value& value) { value = Reordered(value, order); });
}

void ReorderColumns(Values& weights, std::string_view part, const Order& order) {
  ForWeights(weights, part, [&](Value& value) { value = Transposed(Reordered(Transposed(value), order)); });
}

// --- mistakes: changes ---

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

void Untie(ModelRule& r) {
  if (!r.config.tied) return;
  r.config.tied = false;
  r.inputs[kHead] = r.inputs.at(kEmbedding);
}

void TieGradients(const ModelConfig& right, Values& gradients) {
  if (!right.tied) return;
  std::vector<double>& sum = gradients.at(kEmbedding).data;
  const std::vector<double>& head = gradients.at(kHead).data;
  std::transform(sum.begin(), sum.end(), head.begin(), sum.begin(), std::plus<>());
}

// Changes the attention of layers with a window.
template <class F>
void ChangeWindows(ModelRule& r, const F& f) {
  for (AttentionSpec& spec : r.config.attention) {
    if (spec.window > 0) f(spec);
  }
}

double EmbeddingScale(const ModelConfig& c) { return std::sqrt(static_cast<double>(c.hidden)); }

// A change of weights is a matrix, and gradients are pulled back by its transpose: the inverse of a permutation.
template <void (*change)(const ModelConfig& c, Values& weights, bool back)>
void Permuted(ModelRule& r) {
  change(r.config, r.inputs, false);
  r.pull_back = [](const ModelConfig& c, Values& gradients) { change(c, gradients, true); };
}

// The transpose of a symmetric change, a swap or a factor, is the change itself.
template <void (*change)(const ModelConfig& c, Values& weights)>
void Symmetric(ModelRule& r) {
  change(r.config, r.inputs);
  r.pull_back = change;
}

void SwapNorms(const ModelConfig&, Values& weights) {
  SwapWeights(weights, "input_layernorm", "post_attention_layernorm");
}
void SwapGateAndUp(const ModelConfig&, Values& weights) { SwapWeights(weights, "gate_proj", "up_proj"); }
void UnscaleScores(const ModelConfig& c, Values& weights) {
  Scale(weights, c.qk_norm ? ".q_norm." : ".q_proj.", std::sqrt(static_cast<double>(c.head_dim)));
}

void WidestEverywhere(ModelRule& r) {
  std::vector<AttentionSpec>& layers = r.config.attention;
  const AttentionSpec widest = *std::ranges::max_element(layers, {}, &AttentionSpec::window);
  for (AttentionSpec& spec : layers) spec = spec.window == 0 ? widest : spec;
}

void ScaleEmbedding(ModelRule& r) {
  Untie(r);
  Scale(r.inputs, kEmbedding, EmbeddingScale(r.config));
  r.pull_back = [](const ModelConfig& c, Values& gradients) {
    Scale(gradients, kEmbedding, EmbeddingScale(c));
    TieGradients(c, gradients);
  };
}

void HeadGradientAlone(ModelRule& r) {
  Untie(r);
  r.pull_back = [](const ModelConfig& c, Values& gradients) {
    if (c.tied) gradients.at(kEmbedding) = gradients.at(kHead);
  };
}

void AddOne(Value& value) {
  for (double& x : value.data) x += 1;
}

constexpr Mistake<ModelRule> kAttentionMistakes[] = {
    {"windows of W+1 keys", [](ModelRule& r) { ChangeWindows(r, [](AttentionSpec& spec) { ++spec.window; }); }},
    {"windows of W-1 keys", [](ModelRule& r) { ChangeWindows(r, [](AttentionSpec& spec) { --spec.window; }); }},
    {"windows ignored: full attention in all layers",
     [](ModelRule& r) { ChangeWindows(r, [](AttentionSpec& spec) { spec = {}; }); }},
    {"windows of the layers shifted by one layer",
     [](ModelRule& r) {
       std::vector<AttentionSpec>& layers = r.config.attention;
       std::rotate(layers.begin(), layers.begin() + 1, layers.end());
     }},
    {"the window in layers of full attention too", WidestEverywhere},
    {"sinks missing", [](ModelRule& r) { ChangeWindows(r, [](AttentionSpec& spec) { spec.sinks = 0; }); }},
    {"sinks counted inside the window",
     [](ModelRule& r) {
       ChangeWindows(r, [](AttentionSpec& spec) { spec.window = std::max(1, spec.window - spec.sinks); });
     }},
    {"RoPE with a theta of 10000 whatever is given", [](ModelRule& r) { r.config.rope_theta = 10000; }},
    {"RoPE of interleaved pairs (2i, 2i + 1)", Permuted<ReorderPairs>},
    {"key heads interleaved: query head h reads key head h mod G", Permuted<ReorderQueryHeads>},
    {"scores without the scale 1/sqrt(D)", Symmetric<UnscaleScores>},
};

constexpr Mistake<ModelRule> kLayerMistakes[] = {
    {"no norm of queries and keys", [](ModelRule& r) { r.config.qk_norm = false; }},
    {"biases of q, k and v ignored", [](ModelRule& r) { r.config.qkv_bias = false; }},
    {"norms with an eps of 1e-6 whatever is given", [](ModelRule& r) { r.config.rms_eps = 1e-6; }},
    {"norm weights taken as 1 + w (Gemma)", [](ModelRule& r) { ForWeights(r.inputs, "norm.", AddOne); }},
    {"the two norms of a layer swapped", Symmetric<SwapNorms>},
    {"embeddings multiplied by sqrt(C) (Gemma)", ScaleEmbedding},
    {"gate and up swapped", Symmetric<SwapGateAndUp>},
    {"the gradient of a tied embedding without the head's part", Untie},
    {"the gradient of a tied embedding from the head alone", HeadGradientAlone},
};

}  // namespace

ModelConfig SmallConfig(std::vector<AttentionSpec> attention, int heads, int kv_heads) {
  ModelConfig c;
  c.layers = static_cast<int>(attention.size());
  c.hidden = 8;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.head_dim = 4;
  c.ffn = 12;
  c.vocab = 17;
  c.max_positions = 32;
  c.rms_eps = 0x1p-7;
  c.rope_theta = 4;  // short texts turn far
  c.attention = std::move(attention);
  return c;
}

nlohmann::ordered_json ParametersOf(const ModelConfig& c) {
  nlohmann::ordered_json parameters;
  ForEachField(c, [&](const char* name, auto value) { parameters[name] = +value; });  // + makes 0 or 1 of a bool
  for (std::size_t i = 0; i < c.attention.size(); ++i) {
    parameters[Concat("window_", i)] = c.attention[i].window;
    parameters[Concat("sinks_", i)] = c.attention[i].sinks;
  }
  return parameters;
}

ModelConfig ConfigOf(const Case& given) {
  ModelConfig c;
  ForEachField(c, [&]<class T>(const char* name, T& value) { value = static_cast<T>(given.Number(name)); });
  for (int i = 0; i < c.layers; ++i) {
    c.attention.push_back({given.Integer(Concat("window_", i).c_str()), given.Integer(Concat("sinks_", i).c_str())});
  }
  return c;
}

std::vector<std::string> ModelSemantics() {
  return {
      "A decoder as Llama's, Qwen's and Mistral's, weights under their Hugging Face names, [out, in]. Each layer: x += "
      "o(attention(norm(x))), then x += down(silu(gate(n)) * up(n)) with n = norm(x); after the last layer norm, then "
      "the head. Embeddings are not scaled.",
      "norm(x) = x / sqrt(mean(x^2) + rms_norm_eps) * weight. With qk_norm = 1, each query and key head is normed so "
      "before RoPE.",
      "RoPE turns element i of a head with element i + D/2 (half-split, as transformers does) by position * "
      "rope_theta^(-2i/D).",
      "In layer l, the query at position q of a document sees the key at position k of the same document iff 0 <= k <= "
      "q and (window_l = 0 or q - k < window_l or k < sinks_l): window W is W keys with the current one.",
      "Scores are scaled by 1/sqrt(head_dim); query head h reads key head h / (heads / kv_heads), rounded down.",
      "tie_word_embeddings = 1: the head is the embedding. qkv_bias = 1: q, k and v have biases.",
  };
}

Values RandomWeights(PhiloxStream& random, const ModelConfig& config) {
  Values weights;
  for (const ParameterShape& shape : ParameterShapes(config)) weights[shape.name] = WeightOf(random, shape);
  return weights;
}

std::vector<TensorInfo> WeightInfos(bool gradients) {
  ModelConfig all = SmallConfig({{}, {}}, 4, 2);
  all.qk_norm = all.qkv_bias = true;
  std::vector<TensorInfo> infos;
  for (const ParameterShape& shape : ParameterShapes(all)) {
    infos.push_back({gradients ? "grad." + shape.name : shape.name, shape.shape.size() == 1 ? "[out]" : "[out, in]",
                     gradients ? "gradient of sum(d_logp * logp)" : "weight, where the case has it", gradients});
  }
  return infos;
}

std::unique_ptr<Transformer> ModelWith(const ModelConfig& config, const Values& inputs, bool with_gradients,
                                       DType dtype) {
  auto model = std::make_unique<Transformer>(config, dtype, with_gradients);
  model->parameters().Set([&](const Parameter& p, const Tensor& master) {
    const std::vector<double>& from = inputs.at(p.name).data;
    DispatchSum(master.dtype(), [&]<class T>() {
      std::transform(from.begin(), from.end(), master.data<T>(), [](double x) { return static_cast<T>(x); });
    });
  });
  return model;
}

Value LogitsOf(const Context& ctx, const Transformer& model, const Tensor& hidden) {
  const Tensor logits = ctx.arena->New(DType::kF64, {hidden.dim(0), model.config().vocab});
  LinearForward(ctx, logits, hidden, model.head().value, {});
  return ValueOf(logits);
}

Value LogitsOf(Context ctx, const Transformer& model, const std::vector<std::int32_t>& text) {
  const ArenaScope scope(*ctx.arena);
  return LogitsOf(ctx, model, model.Forward(ctx, PackDocuments(*ctx.arena, std::span(&text, 1))).value);
}

std::span<const Mistake<ModelRule>> AttentionMistakes() { return kAttentionMistakes; }
std::span<const Mistake<ModelRule>> LayerMistakes() { return kLayerMistakes; }

}  // namespace swarr::oracle
