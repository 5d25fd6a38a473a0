// SPDX-License-Identifier: Apache-2.0
// All parameters of a model in one flat buffer, and their gradients in another. The name table is the safetensors map.
#pragma once

#include <string>
#include <vector>

#include "autograd/tape.h"
#include "model/config.h"
#include "tensor/memory.h"

namespace swarr {

struct Parameter {
  std::string name;  // Hugging Face name
  Var var;           // value, and gradient if the store holds gradients
};

class ParameterStore {
 public:
  // Zero-filled parameters of the config's model; with gradients if they are to be trained.
  ParameterStore(const ModelConfig& config, DType dtype, bool with_gradients);

  const std::vector<Parameter>& all() const { return all_; }
  const Var& operator[](const std::string& name) const;  // throws for an unknown name
  Tensor flat() const { return values_.view(); }
  Tensor flat_gradients() const { return gradients_.view(); }
  std::int64_t count() const { return values_.view().size(); }

 private:
  OwnedTensor values_, gradients_;
  std::vector<Parameter> all_;
};

// Random initial weights: matrices normal with this standard deviation, those that write to the residual stream
// (o_proj, down_proj) divided by sqrt(2 layers) as in GPT-2; norm weights 1, biases 0. Each parameter draws from a
// stream of its own.
void InitializeParameters(const ParameterStore& parameters, int layers, std::uint64_t seed, double deviation = 0.02);

}  // namespace swarr
