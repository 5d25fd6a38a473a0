// SPDX-License-Identifier: Apache-2.0
// The small models of the suites `model` and `rollout`, and the mistakes that people make in a model. Weights have
// their Hugging Face names.
#pragma once

#include <memory>

#include "model/transformer.h"
#include "oracle/suite.h"

namespace swarr::oracle {

// Two layers of 8 channels with these windows (0: full attention) and sinks; head_dim 4.
ModelConfig SmallConfig(std::vector<AttentionSpec> attention, int heads, int kv_heads);

// The config as a case's parameters, and back.
nlohmann::ordered_json ParametersOf(const ModelConfig& config);
ModelConfig ConfigOf(const Case& given);
// What the parameters mean and what the model computes, as sentences of a family.
std::vector<std::string> ModelSemantics();

// All weights of the config's model: matrices around 0, norm weights around 1, biases around 0.
Values RandomWeights(PhiloxStream& random, const ModelConfig& config);
// The weights of any model here, as a family's inputs, or their gradients as its outputs, with "grad." before the
// names.
std::vector<TensorInfo> WeightInfos(bool gradients);

// The product's model with the weights among these inputs, in its dtype.
std::unique_ptr<Transformer> ModelWith(const ModelConfig& config, const Values& inputs, bool with_gradients,
                                       DType dtype = DType::kF64);

// [T, V] logits of a text.
Value LogitsOf(Context ctx, const Transformer& model, const std::vector<std::int32_t>& text);
// [N, V] logits of hidden states.
Value LogitsOf(const Context& ctx, const Transformer& model, const Tensor& hidden);

// What a case asks for: a mistake is the right model on another config, on other weights or on other inputs.
struct ModelRule {
  ModelConfig config;
  Values inputs;                     // weights among them
  bool documents_forgotten = false;  // a row sees those before it whatever their document, each at its own position
  // Makes gradients of the other weights those that someone with this mistake has of the given ones; null: they are
  // the same. Where the other model lacks a weight, its gradient is 0.
  void (*pull_back)(const ModelConfig& right, Values& gradients) = nullptr;
};

// Mistakes in what a token sees and where it stands.
std::span<const Mistake<ModelRule>> AttentionMistakes();
// Mistakes in all the rest of a model.
std::span<const Mistake<ModelRule>> LayerMistakes();

}  // namespace swarr::oracle
