// SPDX-License-Identifier: Apache-2.0
// The small models of the suites `model` and `rollout`, and the mistakes that people make in a model, each as the right
// model on another config or on other weights. Weights go by their Hugging Face names.
#pragma once

#include <memory>

#include "model/transformer.h"
#include "oracle/suite.h"

namespace swarr::oracle {

// Two layers of 8 channels with these windows (0: full attention) and sinks; head_dim 4.
ModelConfig SmallConfig(std::vector<AttentionSpec> attention, int heads, int kv_heads);

// The config as a case's parameters, and back.
nlohmann::ordered_json ParametersOf(const ModelConfig& config);
ModelConfig ConfigOf(const nlohmann::ordered_json& parameters);
// What the parameters mean, and what the model computes: sentences of a family.
std::vector<std::string> ModelSemantics();

// All weights of the config's model: matrices around 0, norm weights around 1, biases around 0.
Values RandomWeights(PhiloxStream& random, const ModelConfig& config);
// Of the inputs those that are weights.
Values WeightsIn(const Values& inputs, const ModelConfig& config);
// The weights of any model here, as a family's inputs; with "grad." before the names as its outputs.
std::vector<TensorInfo> WeightInfos(bool gradients);

// The product's model with these weights, in its dtype.
std::unique_ptr<Transformer> ModelWith(const ModelConfig& config, const Values& weights, bool with_gradients,
                                       DType dtype = DType::kF64);

// A mistake as the right model of another config and other weights. `pull_back` makes gradients of the other weights
// those that someone with this mistake has of the given ones; null: they are the same. Of weights that the other model
// lacks the gradient is 0.
struct ModelMistake {
  const char* name;
  void (*change)(ModelConfig& config, Values& weights);
  void (*pull_back)(const ModelConfig& right, Values& gradients) = nullptr;
};

// Mistakes in what a token sees and where it stands.
const std::vector<ModelMistake>& AttentionMistakes();
// Mistakes in all the rest.
const std::vector<ModelMistake>& LayerMistakes();

}  // namespace swarr::oracle
