// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"

namespace swarr {

void RequireFinite(const Context& ctx, const Tensor& t, const char* what) {
  const std::int64_t bad = CountNonFinite(HostView(t, MemoryOf(ctx.device())).view());
  SWARR_CHECK(bad == 0, what, " the op ", ctx.arena->label(), " has ", bad, " of ", t.size(),
              " values that are not finite");
}

Var Embedding(Context& ctx, const Var& w, const Tensor& ids) {
  const ArenaLabel label(*ctx.arena, "embedding");
  const Var y = NewVar(ctx, w.value.dtype(), {ids.dim(0), w.value.dim(1)});
  GatherRows(ctx, y.value, w.value, ids);
  RecordBackward(ctx, [=](Context& c) { EmbeddingBackward(c, w.ClaimGrad(), y.SettleGrad(c), ids); });
  return Traced(ctx, y);
}

Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b, const Var& residual) {
  const ArenaLabel label(*ctx.arena, "linear");
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), w.value.dim(0)});
  LinearForward(ctx, y.value, x.value, w.value, b.value, residual.value);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor& dy = y.SettleGrad(c);
    AddGradient(c, residual.ClaimGrad(), dy);
    LinearBackward(c, x.ClaimGrad(), w.ClaimGrad(), b.ClaimGrad(), dy, x.value, w.value);
  });
  return Traced(ctx, y);
}

Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps) {
  const ArenaLabel label(*ctx.arena, "rmsnorm");
  const Var y = NewVarLike(ctx, x.value);
  const Tensor rstd = ctx.arena->New(AccumulatorOf(x.value.dtype()), {x.value.size() / w.value.dim(0)});
  RmsNormForward(ctx, y.value, rstd, x.value, w.value, eps);
  RecordBackward(ctx, [=](Context& c) {
    RmsNormBackward(c, x.ClaimGrad(), w.ClaimGrad(), y.SettleGrad(c), x.value, w.value, rstd);
  });
  return Traced(ctx, y);
}

Var Rope(Context& ctx, const Var& x, const Tensor& positions, const Tensor& table) {
  const ArenaLabel label(*ctx.arena, "rope");
  const Var y = NewVarLike(ctx, x.value);
  RopeForward(ctx, y.value, x.value, positions, table);
  RecordBackward(ctx, [=](Context& c) { RopeBackward(c, x.ClaimGrad(), y.SettleGrad(c), positions, table); });
  return Traced(ctx, y);
}

// Two inputs may be one variable. The first one that is claimed is the one that the backward writes first.
Var SwiGlu(Context& ctx, const Var& gate, const Var& up) {
  const ArenaLabel label(*ctx.arena, "swiglu");
  const Var y = NewVarLike(ctx, gate.value);
  SwiGluForward(ctx, y.value, gate.value, up.value);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor dgate = gate.ClaimGrad(), dup = up.ClaimGrad();
    SwiGluBackward(c, dgate, dup, y.SettleGrad(c), gate.value, up.value);
  });
  return Traced(ctx, y);
}

Var Add(Context& ctx, const Var& a, const Var& b) {
  const ArenaLabel label(*ctx.arena, "add");
  const Var y = NewVarLike(ctx, a.value);
  AddForward(ctx, y.value, a.value, b.value);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor da = a.ClaimGrad(), db = b.ClaimGrad();
    AddBackward(c, da, db, y.SettleGrad(c));
  });
  return Traced(ctx, y);
}

// The gradient of y has one more row, of zeros, for the rows of x that were not selected.
Var SelectRows(Context& ctx, const Var& x, const Tensor& rows, const Tensor& places) {
  const ArenaLabel label(*ctx.arena, "select rows");
  const std::int64_t M = rows.dim(0), C = x.value.dim(1);
  const Tensor value = ctx.arena->New(x.value.dtype(), {M, C});
  GatherRows(ctx, value, x.value, rows);
  if (!ctx.tape) return {value, {}};
  const Tensor padded = ctx.arena->New(x.value.dtype(), {M + 1, C});
  const Var y{value, padded.Rows(0, M), new (ctx.HostArena().NewArray<bool>(1)) bool(true)};
  RecordBackward(ctx, [=](Context& c) {
    y.SettleGrad(c);
    FillZero(c, padded.Rows(M, M + 1));
    const Tensor dx = x.ClaimGrad();
    if (dx.fresh()) return GatherRows(c, dx, padded, places);
    const ArenaScope scope(*c.arena);
    const Tensor added = c.arena->NewLike(x.value);
    GatherRows(c, added, padded, places);
    AddGradient(c, dx, added);
  });
  return Traced(ctx, y);
}

Var Reshape(const Var& x, std::initializer_list<std::int64_t> shape) {
  return {x.value.Reshape(shape), x.grad.empty() ? x.grad : x.grad.Reshape(shape), x.fresh};
}

Var Attention(Context& ctx, const AttentionVars& in, const Tensor& q_pos, const Tensor& documents, AttentionSpec spec,
              const Tensor& prompts) {
  const ArenaLabel label(*ctx.arena, "attention");
  const Tensor& q = in.q.value;
  const Var out = NewVarLike(ctx, q);
  const Tensor lse = ctx.arena->New(AccumulatorOf(q.dtype()), {q.dim(0), q.dim(1)});
  const AttentionInputs inputs{q, in.k.value, in.v.value, q_pos, documents, spec, in.sink_logits.value, prompts};
  AttentionForward(ctx, out.value, lse, inputs);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor dq = in.q.ClaimGrad(), dk = in.k.ClaimGrad(), dv = in.v.ClaimGrad();
    AttentionBackward(c, {dq, dk, dv, in.sink_logits.ClaimGrad()}, out.SettleGrad(c), out.value, lse, inputs);
  });
  return Traced(ctx, out);
}

Var CachedAttention(Context& ctx, const CachedAttentionInputs& inputs) {
  const ArenaLabel label(*ctx.arena, "attention");
  RequireNoTape(ctx, "attention over a cache");
  const Tensor& q = inputs.q;
  const Var out = NewVarLike(ctx, q);
  const Tensor lse = ctx.arena->New(AccumulatorOf(q.dtype()), {q.dim(0), q.dim(1)});
  CachedAttentionForward(ctx, out.value, lse, inputs);
  return Traced(ctx, out);
}

LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets) {
  const ArenaLabel label(*ctx.arena, "token_logprob");
  const std::int64_t N = x.value.dim(0);
  const DType dtype = AccumulatorOf(x.value.dtype());
  const auto new_result = [&] { return ctx.arena->New(dtype, {N}); };
  const Tensor logp = new_result(), lse = new_result(), entropy = new_result();
  TokenLogprobForward(ctx, logp, lse, entropy, {x.value, w.value, targets});
  Traced(ctx, {logp, {}});
  LogprobResult result{{ToHost(ctx, logp), {}}, {ToHost(ctx, entropy), {}}};
  if (!ctx.tape) return result;
  Arena& host = ctx.HostArena();
  result.logp.grad = host.NewZero(dtype, {N});
  result.entropy = WithGrad(ctx, host, result.entropy.value);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor dentropy = *result.entropy.fresh ? Tensor{} : ToDevice(c, result.entropy.grad);
    TokenLogprobBackward(c, x.ClaimGrad(), w.ClaimGrad(), ToDevice(c, result.logp.grad), dentropy, lse, entropy,
                         {x.value, w.value, targets});
  });
  return result;
}

Var DistillKl(Context& ctx, const Var& x, const Var& w, const Tensor& teacher_x, const Tensor& teacher_w,
              const DistillOptions& options) {
  const ArenaLabel label(*ctx.arena, "distill");
  const DType dtype = AccumulatorOf(x.value.dtype());
  const std::int64_t N = x.value.dim(0);
  const auto new_result = [&] { return ctx.arena->New(dtype, {N}); };
  const DistillInputs inputs{x.value, w.value, teacher_x, teacher_w, options};
  const DistillResults results{new_result(), new_result(), new_result()};
  DistillForward(ctx, results, inputs);
  Traced(ctx, {results.kl, {}});
  Var kl{ToHost(ctx, results.kl), {}};
  if (!ctx.tape) return kl;
  kl.grad = ctx.HostArena().NewZero(dtype, {N});
  RecordBackward(ctx, [=](Context& c) {
    DistillBackward(c, x.ClaimGrad(), w.ClaimGrad(), ToDevice(c, kl.grad), results, inputs);
  });
  return kl;
}

}  // namespace swarr
