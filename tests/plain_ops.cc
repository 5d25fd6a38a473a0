// SPDX-License-Identifier: Apache-2.0
#include "plain_ops.h"

#include "plain/attention.h"
#include "tensors.h"

namespace swarr {

double RoundToBF16(double x) { return static_cast<double>(static_cast<float>(BFloat16(x))); }

void RoundToBF16(const Tensor& t) {
  for (std::int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = RoundToBF16(t.data<double>()[i]);
}

namespace plain {
namespace {

Tensor AsRows(const Tensor& x, std::int64_t C) { return x.empty() ? x : x.Reshape({x.size() / C, C}); }

}  // namespace

Var Embedding(Context& ctx, const Var& w, const Tensor& ids) {
  const Var y = NewVar(ctx, DType::kF64, {ids.dim(0), w.value.dim(1)});
  EmbeddingForward(y.value, w.value, ids);
  RecordBackward(ctx, [=](Context& c) { EmbeddingBackward(w.SettleGrad(c), y.SettleGrad(c), ids); });
  return y;
}

Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b) {
  const Var y = NewVar(ctx, DType::kF64, {x.value.dim(0), w.value.dim(0)});
  LinearForward(y.value, x.value, w.value, b.value, {});
  RecordBackward(ctx, [=](Context& c) {
    LinearBackward(x.SettleGrad(c), w.SettleGrad(c), b.SettleGrad(c), y.SettleGrad(c), x.value, w.value);
  });
  return y;
}

Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps) {
  const Var y = NewVarLike(ctx, x.value);
  const std::int64_t C = w.value.dim(0);
  RmsNormForward(AsRows(y.value, C), AsRows(x.value, C), w.value, eps);
  RecordBackward(ctx, [=](Context& c) {
    RmsNormBackward(AsRows(x.SettleGrad(c), C), w.SettleGrad(c), AsRows(y.SettleGrad(c), C), AsRows(x.value, C),
                    w.value, eps);
  });
  return y;
}

Var Rope(Context& ctx, const Var& x, const Tensor& positions, double theta) {
  const Var y = NewVarLike(ctx, x.value);
  RopeForward(y.value, x.value, positions, theta);
  RecordBackward(ctx, [=](Context& c) { RopeBackward(x.SettleGrad(c), y.SettleGrad(c), positions, theta); });
  return y;
}

Var SwiGlu(Context& ctx, const Var& gate, const Var& up) {
  const Var y = NewVarLike(ctx, gate.value);
  SwiGluForward(y.value, gate.value, up.value);
  RecordBackward(ctx, [=](Context& c) {
    SwiGluBackward(gate.SettleGrad(c), up.SettleGrad(c), y.SettleGrad(c), gate.value, up.value);
  });
  return y;
}

Var Add(Context& ctx, const Var& a, const Var& b) {
  const Var y = NewVarLike(ctx, a.value);
  AddForward(y.value, a.value, b.value);
  RecordBackward(ctx, [=](Context& c) { AddBackward(a.SettleGrad(c), b.SettleGrad(c), y.SettleGrad(c)); });
  return y;
}

Var Attention(Context& ctx, const std::array<Var, 3>& qkv, const Tensor& q_pos, const Tensor& documents,
              AttentionSpec spec, const Var& sink_logits, Rounding stored) {
  const auto [q, k, v] = qkv;
  const Var out = NewVarLike(ctx, q.value);
  const Tensor lse = ctx.arena->New(DType::kF64, {q.value.dim(0), q.value.dim(1)});
  const auto inputs = [=, q = q.value, k = k.value, v = v.value] {
    return AttentionInputs{q, k, v, WithinDocuments(documents, q_pos, spec), sink_logits.value};
  };
  AttentionForward(out.value, lse, inputs(), stored);
  RecordBackward(ctx, [=](Context& c) {
    const AttentionGradients to = {q.SettleGrad(c), k.SettleGrad(c), v.SettleGrad(c), sink_logits.SettleGrad(c)};
    AttentionBackward(to, out.SettleGrad(c), out.value, lse, inputs(), stored);
  });
  return out;
}

LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets, Rounding stored) {
  const std::int64_t N = x.value.dim(0);
  const Var logp = NewVar(ctx, DType::kF64, {N}), entropy = NewVar(ctx, DType::kF64, {N});
  if (ctx.tape) logp.SettleGrad(ctx);  // holds zeros from the beginning, as the op's own does
  TokenLogprobForward(logp.value, ctx.arena->New(DType::kF64, {N}), entropy.value, x.value, w.value, targets);
  RecordBackward(ctx, [=](Context& c) {
    TokenLogprobBackward(x.SettleGrad(c), w.SettleGrad(c), logp.SettleGrad(c), entropy.SettleGrad(c), x.value, w.value,
                         targets, stored);
  });
  return {logp, entropy};
}

Var Stored(Context& ctx, const Var& x, Rounding stored) {
  const Var y = NewVarLike(ctx, x.value);
  for (std::int64_t i = 0; i < y.value.size(); ++i) y.value.data<double>()[i] = stored(x.value.data<double>()[i]);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor &dx = x.SettleGrad(c), &dy = y.SettleGrad(c);
    for (std::int64_t i = 0; i < dx.size(); ++i) dx.data<double>()[i] += stored(dy.data<double>()[i]);
  });
  return y;
}

}  // namespace plain
}  // namespace swarr
