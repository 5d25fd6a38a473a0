// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/masked_decoder.h"

#include "oracle/values.h"
#include "plain/attention.h"
#include "tensor/rope_table.h"

namespace swarr::oracle {
namespace masked_decoder {

// mask [N, N] i32: 1 where the row of the first index sees the key of the second.
Var MaskedAttention(Context& ctx, const AttentionVars& in, const Tensor& mask) {
  const Var out = NewVarLike(ctx, in.q.value);
  const Tensor lse = ctx.arena->New(DType::kF64, {in.q.value.dim(0), in.q.value.dim(1)});
  const auto inputs = [=] {
    const auto sees = [seen = plain::Indices(mask)](int n, int j) { return seen(n, j) != 0; };
    return plain::AttentionInputs{in.q.value, in.k.value, in.v.value, sees};
  };
  plain::AttentionForward(out.value, lse, inputs());
  RecordBackward(ctx, [=](Context& c) {
    const plain::AttentionGradients to{in.q.SettleGrad(c), in.k.SettleGrad(c), in.v.SettleGrad(c)};
    plain::AttentionBackward(to, out.SettleGrad(c), out.value, lse, inputs());
  });
  return out;
}

// What all layers share.
struct Pass {
  const Transformer& model;
  Tensor positions, rope_table;

  // y = x + o(attention(norm(x))), then y + down(silu(gate(m)) * up(m)) with m = norm(y).
  Var Layer(Context& ctx, int layer, const Var& x, const Tensor& mask) const {
    const ModelConfig& c = model.config();
    const std::int64_t N = x.value.dim(0), D = c.head_dim;
    const auto parameter = [&](const std::string& name) {
      return model.parameters()[Concat("model.layers.", layer, ".", name)];
    };
    const auto norm = [&](const Var& of, const char* name) {
      return RmsNorm(ctx, of, parameter(Concat(name, ".weight")), c.rms_eps);
    };
    const Var h = norm(x, "input_layernorm");
    const auto heads = [&](const char* name, std::int64_t count) {
      const std::string projection = Concat("self_attn.", name, "_proj");
      const Var bias = c.qkv_bias ? parameter(projection + ".bias") : Var{};
      return Reshape(Linear(ctx, h, parameter(projection + ".weight"), bias), {N, count, D});
    };
    Var q = heads("q", c.heads), k = heads("k", c.kv_heads);
    const Var v = heads("v", c.kv_heads);
    if (c.qk_norm) {
      q = norm(q, "self_attn.q_norm");
      k = norm(k, "self_attn.k_norm");
    }
    q = Rope(ctx, q, positions, rope_table);
    k = Rope(ctx, k, positions, rope_table);
    const Var attended = Reshape(MaskedAttention(ctx, {q, k, v}, mask), {N, c.heads * D});
    const Var y = Linear(ctx, attended, parameter("self_attn.o_proj.weight"), {}, x);
    const Var m = norm(y, "post_attention_layernorm");
    const Var gate = Linear(ctx, m, parameter("mlp.gate_proj.weight"));
    const Var gated = SwiGlu(ctx, gate, Linear(ctx, m, parameter("mlp.up_proj.weight")));
    return Linear(ctx, gated, parameter("mlp.down_proj.weight"), {}, y);
  }
};

}  // namespace masked_decoder

Var MaskedForward(Context& ctx, const Transformer& model, const MaskedRows& rows) {
  const ModelConfig& c = model.config();
  const auto N = std::ssize(rows.tokens);
  const Tensor table = ctx.arena->New(DType::kF64, {c.max_positions, c.head_dim});
  FillRopeTable(table, c.rope_theta);
  const masked_decoder::Pass pass{model, InArena(ctx, Integers(rows.positions)), table};
  Var x = Embedding(ctx, model.parameters()["model.embed_tokens.weight"], InArena(ctx, Integers(rows.tokens)));
  for (int layer = 0; layer < c.layers; ++layer) {
    const Tensor mask = ctx.arena->New(DType::kI32, {N, N});
    for (std::int64_t i = 0; i < N * N; ++i) {
      mask.data<std::int32_t>()[i] = rows.sees(c.attention[static_cast<std::size_t>(layer)], i / N, i % N) ? 1 : 0;
    }
    x = pass.Layer(ctx, layer, x, mask);
  }
  return RmsNorm(ctx, x, model.parameters()["model.norm.weight"], c.rms_eps);
}

}  // namespace swarr::oracle
