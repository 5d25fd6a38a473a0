// SPDX-License-Identifier: Apache-2.0
#include "model/parameters.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tensor/memory_report.h"
#include "tensor/ops.h"
#include "tensor/philox.h"
#include "tensor/transfer.h"

namespace swarr {

std::vector<ParameterShape> ParameterShapes(const ModelConfig& c) {
  const std::int64_t C = c.hidden, q = std::int64_t{c.heads} * c.head_dim, kv = std::int64_t{c.kv_heads} * c.head_dim;
  std::vector<ParameterShape> shapes = {{"model.embed_tokens.weight", {c.vocab, C}}};
  for (int i = 0; i < c.layers; ++i) {
    const auto add = [&](const char* name, std::vector<std::int64_t> shape) {
      shapes.push_back({Concat("model.layers.", i, ".", name), std::move(shape)});
    };
    add("input_layernorm.weight", {C});
    add("self_attn.q_proj.weight", {q, C});
    add("self_attn.k_proj.weight", {kv, C});
    add("self_attn.v_proj.weight", {kv, C});
    if (c.qkv_bias) {
      add("self_attn.q_proj.bias", {q});
      add("self_attn.k_proj.bias", {kv});
      add("self_attn.v_proj.bias", {kv});
    }
    if (c.qk_norm) {
      add("self_attn.q_norm.weight", {c.head_dim});
      add("self_attn.k_norm.weight", {c.head_dim});
    }
    if (c.learned_sinks) add("self_attn.sinks", {c.heads});
    add("self_attn.o_proj.weight", {C, q});
    add("post_attention_layernorm.weight", {C});
    add("mlp.gate_proj.weight", {c.ffn, C});
    add("mlp.up_proj.weight", {c.ffn, C});
    add("mlp.down_proj.weight", {C, c.ffn});
  }
  shapes.push_back({"model.norm.weight", {C}});
  if (!c.tied) shapes.push_back({"lm_head.weight", {c.vocab, C}});
  return shapes;
}

std::int64_t ParameterCount(const ModelConfig& config) {
  std::int64_t count = 0;
  for (const ParameterShape& s : ParameterShapes(config)) count += s.size();
  return count;
}

Tensor Parameter::PartOf(const Tensor& flat) const {
  if (flat.empty()) return {};
  const Tensor part = flat.Rows(offset, offset + size());
  return shape.size() == 2 ? part.Reshape({shape[0], shape[1]}) : part;
}

ParameterStore::ParameterStore(const ModelConfig& config, DType dtype, bool with_gradients, MemoryKind kind)
    : kind_(kind) {
  config.Validate();
  const std::int64_t total = ParameterCount(config);
  values_ = OwnedTensor(dtype, {total}, kind);
  const DType master = AccumulatorOf(dtype);
  if (master != dtype) masters_ = OwnedTensor(master, {total}, kind);
  if (with_gradients) gradients_ = OwnedTensor(master, {total}, kind);
  std::int64_t offset = 0;
  for (const ParameterShape& shape : ParameterShapes(config)) {
    Parameter p{shape, offset, {}, {}};
    p.var = {p.PartOf(values_.view()), p.PartOf(gradients_.view())};
    p.master = p.PartOf(this->master());
    offset += p.size();
    all_.push_back(std::move(p));
  }
}

void ParameterStore::NoteMemory(MemoryReport& report) const {
  report.Note("parameters", values_.view().bytes());
  if (!masters_.view().empty()) report.Note("parameters, f32 master", masters_.view().bytes());
  if (!gradients_.view().empty()) report.Note("gradients", gradients_.view().bytes());
}

void ParameterStore::Set(const std::function<void(const Parameter&, const Tensor&)>& set) const {
  const HostView host(master(), kind_);
  for (const Parameter& p : all_) set(p, p.PartOf(host.view()));
  host.WriteBack();
  if (masters_.view().empty()) return;
  const HostView values(values_.view(), kind_);
  CastForward({}, values.view(), host.view());
  values.WriteBack();
}

void ParameterStore::RoundMaster(const Context& ctx) const {
  if (!masters_.view().empty()) CastForward(ctx, values_.view(), masters_.view());
}

const Var& ParameterStore::operator[](const std::string& name) const {
  const auto it = std::find_if(all_.begin(), all_.end(), [&](const Parameter& p) { return p.name == name; });
  SWARR_CHECK(it != all_.end(), "the model has no parameter ", name);
  return it->var;
}

void InitializeParameters(const ParameterStore& parameters, int layers, std::uint64_t seed, double deviation) {
  std::uint32_t index = 0;
  parameters.Set([&](const Parameter& p, const Tensor& master) {
    PhiloxStream stream(StreamKey(seed, Purpose::kInit, index++));
    const bool to_residual = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const double scale = to_residual ? deviation / std::sqrt(2.0 * layers) : deviation;
    const double constant = p.name.ends_with("norm.weight") ? 1.0 : 0.0;
    DispatchSum(master.dtype(), [&]<class T>() {
      for (std::int64_t i = 0; i < master.size(); ++i) {
        master.data<T>()[i] = static_cast<T>(master.rank() == 2 ? scale * stream.NextNormal() : constant);
      }
    });
  });
}

}  // namespace swarr
