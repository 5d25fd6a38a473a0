// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/small_models.h"

#include <algorithm>
#include <cmath>

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
  ForEachField(c, [&](const char* name, const auto& value) {
    if constexpr (std::is_same_v<decltype(value), const bool&>) {
      parameters[name] = value ? 1 : 0;
    } else {
      parameters[name] = value;
    }
  });
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

}  // namespace swarr::oracle
