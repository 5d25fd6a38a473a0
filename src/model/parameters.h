// SPDX-License-Identifier: Apache-2.0
// All parameters of a model in one flat buffer, and their gradients in another. The name table is the safetensors map.
//
// In bf16 there are two copies: the master in f32, which is read, trained and written, and the bf16 values that the
// model computes with, its rounding. f32 and f64 have one copy, which is both. Gradients have the master's dtype.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "model/config.h"
#include "tensor/memory.h"

namespace swarr {

struct ParameterShape {
  std::string name;                 // Hugging Face name
  std::vector<std::int64_t> shape;  // a matrix or a vector; a linear layer's weight is [out, in]

  std::int64_t size() const { return shape.size() == 2 ? shape[0] * shape[1] : shape[0]; }
};

// The parameters of the config's model, in the order in which they lie in memory.
std::vector<ParameterShape> ParameterShapes(const ModelConfig& config);
// How many numbers they are.
std::int64_t ParameterCount(const ModelConfig& config);

struct Parameter : ParameterShape {
  std::int64_t offset = 0;  // of its first element in the flat buffers
  Var var;                  // value, and gradient if the store holds gradients
  Tensor master;            // what the value is a rounding of; the value itself in f32 and f64

  // Its part of a tensor that lies as the flat buffers do.
  Tensor PartOf(const Tensor& flat) const;
};

class ParameterStore {
 public:
  // Zero-filled parameters of the config's model; with gradients if they are to be trained.
  ParameterStore(const ModelConfig& config, DType dtype, bool with_gradients, MemoryKind kind = MemoryKind::kHost);

  const std::vector<Parameter>& all() const { return all_; }
  const Var& operator[](const std::string& name) const;  // throws for an unknown name
  DType dtype() const { return values_.view().dtype(); }
  MemoryKind kind() const { return kind_; }
  Tensor master() const { return masters_.view().empty() ? values_.view() : masters_.view(); }
  Tensor values() const { return values_.view(); }  // what the model computes with; the master itself in f32 and f64
  Tensor flat_gradients() const { return gradients_.view(); }
  std::int64_t count() const { return values_.view().size(); }
  void NoteMemory(MemoryReport& report) const;

  // Calls set(parameter, its master on the host) for each parameter, in order, and makes what was written there the
  // parameter, rounded too.
  void Set(const std::function<void(const Parameter&, const Tensor&)>& set) const;
  // Rounds the master to the values, after the context's device wrote to it. Nothing to do in f32 and f64.
  void RoundMaster(const Context& ctx) const;

 private:
  MemoryKind kind_;
  OwnedTensor values_, masters_, gradients_;
  std::vector<Parameter> all_;
};

// Random initial weights: matrices normal with this standard deviation, those that write to the residual stream
// (o_proj, down_proj) divided by sqrt(2 layers) as in GPT-2; norm weights 1, biases and learned sinks 0. Each parameter
// draws from a stream of its own.
void InitializeParameters(const ParameterStore& parameters, int layers, std::uint64_t seed, double deviation = 0.02);

}  // namespace swarr
