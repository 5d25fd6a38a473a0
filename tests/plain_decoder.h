// SPDX-License-Identifier: Apache-2.0
// A decoder of plain definitions, independent of the product's: no biases, no norm of queries and keys. Attention is
// full and without a cache, unless a derived class does otherwise.
#pragma once

#include <cmath>

#include "oracle/suites/small_models.h"
#include "plain/attention.h"
#include "plain/ops.h"

namespace swarr::oracle {

struct PlainRule {
  bool interleaved = false;       // pairs (2i, 2i + 1) turn together
  bool keys_interleaved = false;  // query head h reads key head h mod G
};

// An array over a value of rank 1 or 2, whose last dimension is cut into heads of D.
inline plain::Array ArrayOf(Value& value, int D = 1) {
  const int columns = value.shape.size() == 1 ? 1 : static_cast<int>(value.dim(1));
  return {value.data.data(), {static_cast<int>(value.dim(0)), columns / D, D}};
}

class PlainDecoder {
 public:
  PlainDecoder(const ModelConfig& config, const Values& weights, PlainRule rule)
      : c_(config), weights_(weights), rule_(rule) {}
  virtual ~PlainDecoder() = default;
  PlainDecoder(const PlainDecoder&) = delete;
  PlainDecoder& operator=(const PlainDecoder&) = delete;

  // [T, V] of tokens that stand from the position `begin` on.
  Value Logits(const std::vector<std::int32_t>& tokens, int begin = 0) {
    begin_ = begin;
    Value x = Zeros({std::ssize(tokens), c_.hidden});
    plain::EmbeddingForward(ArrayOf(x), ArrayOf(weights_.at("model.embed_tokens.weight")),
                            {tokens.data(), {static_cast<int>(tokens.size()), 1, 1}});
    for (int i = 0; i < c_.layers; ++i) Layer(x, i);
    return Product("lm_head.weight", Norm("model.norm.weight", x));
  }

 protected:
  const ModelConfig& config() const { return c_; }
  int begin() const { return begin_; }

  // q [T, H D], keys and values [T, G D]: of the tokens at hand.
  virtual Value Attended(int /*layer*/, const Value& q, const Value& keys, const Value& values) {
    return AttentionOver(q, keys, values, [](int n, int j) { return j <= n; });
  }

  Value AttentionOver(Value q, const Value& keys, const Value& values, const plain::Sees& sees) const {
    const int D = c_.head_dim;
    Value k = ForQueryHeads(keys), v = ForQueryHeads(values), out = q, lse = Zeros({q.dim(0), c_.heads});
    plain::AttentionForward(ArrayOf(out, D), ArrayOf(lse), {ArrayOf(q, D), ArrayOf(k, D), ArrayOf(v, D), sees});
    return out;
  }

 private:
  Value Product(const std::string& name, Value x, const Value& residual = {}) {
    Value &w = weights_.at(name), y = Zeros({x.dim(0), w.dim(0)}), r = residual;
    plain::LinearForward(ArrayOf(y), ArrayOf(x), ArrayOf(w), {}, r.data.empty() ? plain::Array() : ArrayOf(r));
    return y;
  }

  Value Norm(const std::string& name, Value x) {
    Value y = x;
    plain::RmsNormForward(ArrayOf(y), ArrayOf(x), ArrayOf(weights_.at(name)), c_.rms_eps);
    return y;
  }

  void Layer(Value& x, int index) {
    const std::string layer = "model.layers." + std::to_string(index) + ".";
    const Value n = Norm(layer + "input_layernorm.weight", x);
    Value q = Product(layer + "self_attn.q_proj.weight", n), k = Product(layer + "self_attn.k_proj.weight", n);
    Turn(q);
    Turn(k);
    const Value out = Attended(index, q, k, Product(layer + "self_attn.v_proj.weight", n));
    x = Product(layer + "self_attn.o_proj.weight", out, x);
    const Value m = Norm(layer + "post_attention_layernorm.weight", x);
    Value gate = Product(layer + "mlp.gate_proj.weight", m), up = Product(layer + "mlp.up_proj.weight", m);
    plain::SwiGluForward(ArrayOf(gate), ArrayOf(gate), ArrayOf(up));
    x = Product(layer + "mlp.down_proj.weight", gate, x);
  }

  void Turn(Value& rows) const {
    const std::int64_t D = c_.head_dim;
    for (std::int64_t t = 0; t < rows.dim(0); ++t) {
      for (std::int64_t head = 0; head < rows.dim(1); head += D) {
        for (std::int64_t i = 0; i < D / 2; ++i) {
          double& a = rows(t, head + (rule_.interleaved ? 2 * i : i));
          double& b = rows(t, head + (rule_.interleaved ? 2 * i + 1 : i + D / 2));
          const double angle = static_cast<double>(begin_ + t) *
                               std::pow(c_.rope_theta, -2 * static_cast<double>(i) / static_cast<double>(D));
          const double turned = a * std::cos(angle) - b * std::sin(angle);
          b = a * std::sin(angle) + b * std::cos(angle);
          a = turned;
        }
      }
    }
  }

  // The heads of keys or values, one for each query head.
  Value ForQueryHeads(const Value& keys) const {
    const std::int64_t D = c_.head_dim;
    Value all = Zeros({keys.dim(0), c_.heads * D});
    for (std::int64_t t = 0; t < all.dim(0); ++t) {
      for (std::int64_t i = 0; i < all.dim(1); ++i) {
        const std::int64_t h = i / D, g = rule_.keys_interleaved ? h % c_.kv_heads : h / (c_.heads / c_.kv_heads);
        all(t, i) = keys(t, g * D + i % D);
      }
    }
    return all;
  }

  const ModelConfig& c_;
  Values weights_;
  PlainRule rule_;
  int begin_ = 0;
};

}  // namespace swarr::oracle
