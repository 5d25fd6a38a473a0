// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"

namespace swarr {

Var Embedding(Context& ctx, const Var& w, const Tensor& ids) {
  const ArenaLabel label(*ctx.arena, "embedding");
  const Var y = NewVar(ctx, w.value.dtype(), {ids.dim(0), w.value.dim(1)});
  EmbeddingForward(ctx, y.value, w.value, ids);
  if (ctx.tape && !w.grad.empty()) {
    ctx.tape->Record(ctx, [=](Context& c) { EmbeddingBackward(c, w.SettleGrad(c), y.SettleGrad(c), ids); });
  }
  return y;
}

Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b, const Var& residual) {
  const ArenaLabel label(*ctx.arena, "linear");
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), w.value.dim(0)});
  LinearForward(ctx, y.value, x.value, w.value, b.value, residual.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      const Tensor& dy = y.SettleGrad(c);
      if (!residual.grad.empty()) AddGradient(c, residual.ClaimGrad(), dy);
      const Tensor dx = x.ClaimGrad(), dw = w.ClaimGrad();
      LinearBackward(c, dx, dw, b.SettleGrad(c), dy, x.value, w.value);
    });
  }
  return y;
}

Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps) {
  const ArenaLabel label(*ctx.arena, "rmsnorm");
  const Var y = x.value.rank() == 3 ? NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1), x.value.dim(2)})
                                    : NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1)});
  const Tensor rstd = ctx.arena->New(AccumulatorOf(x.value.dtype()), {x.value.size() / w.value.dim(0)});
  RmsNormForward(ctx, y.value, rstd, x.value, w.value, eps);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      RmsNormBackward(c, x.ClaimGrad(), w.SettleGrad(c), y.SettleGrad(c), x.value, w.value, rstd);
    });
  }
  return y;
}

Var Rope(Context& ctx, const Var& x, const Tensor& positions, const Tensor& table) {
  const ArenaLabel label(*ctx.arena, "rope");
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1), x.value.dim(2)});
  RopeForward(ctx, y.value, x.value, positions, table);
  if (ctx.tape)
    ctx.tape->Record(ctx, [=](Context& c) { RopeBackward(c, x.ClaimGrad(), y.SettleGrad(c), positions, table); });
  return y;
}

Var SwiGlu(Context& ctx, const Var& gate, const Var& up) {
  const ArenaLabel label(*ctx.arena, "swiglu");
  const Var y = NewVar(ctx, gate.value.dtype(), {gate.value.dim(0), gate.value.dim(1)});
  SwiGluForward(ctx, y.value, gate.value, up.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      const Tensor dgate = gate.ClaimGrad(), dup = up.ClaimGrad();
      SwiGluBackward(c, dgate, dup, y.SettleGrad(c), gate.value, up.value);
    });
  }
  return y;
}

Var Add(Context& ctx, const Var& a, const Var& b) {
  const ArenaLabel label(*ctx.arena, "add");
  const Var y = NewVar(ctx, a.value.dtype(), {a.value.dim(0), a.value.dim(1)});
  AddForward(ctx, y.value, a.value, b.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      const Tensor da = a.ClaimGrad(), db = b.ClaimGrad();
      AddBackward(c, da, db, y.SettleGrad(c));
    });
  }
  return y;
}

Var Reshape(const Var& x, std::initializer_list<std::int64_t> shape) {
  return {x.value.Reshape(shape), x.grad.empty() ? x.grad : x.grad.Reshape(shape), x.fresh};
}

Var Attention(Context& ctx, const Var& q, const Var& k, const Var& v, const Tensor& q_pos, const Tensor& documents,
              AttentionSpec spec) {
  const ArenaLabel label(*ctx.arena, "attention");
  const std::int64_t N = q.value.dim(0), H = q.value.dim(1), D = q.value.dim(2);
  const Var out = NewVar(ctx, q.value.dtype(), {N, H, D});
  const Tensor lse = ctx.arena->New(AccumulatorOf(q.value.dtype()), {N, H});
  AttentionForward(ctx, out.value, lse, q.value, k.value, v.value, q_pos, documents, spec);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      const Tensor dq = q.ClaimGrad(), dk = k.ClaimGrad(), dv = v.ClaimGrad();
      AttentionBackward(c, dq, dk, dv, out.SettleGrad(c), out.value, lse, q.value, k.value, v.value, q_pos, documents,
                        spec);
    });
  }
  return out;
}

Var CachedAttention(Context& ctx, const Var& q, const Tensor& k, const Tensor& v, const KeyCache& cache,
                    const Tensor& positions, const Tensor& slots, AttentionSpec spec) {
  const ArenaLabel label(*ctx.arena, "attention");
  RequireNoTape(ctx, "attention over a cache");
  const std::int64_t N = q.value.dim(0), H = q.value.dim(1), D = q.value.dim(2);
  const Var out = NewVar(ctx, q.value.dtype(), {N, H, D});
  const Tensor lse = ctx.arena->New(AccumulatorOf(q.value.dtype()), {N, H});
  StoreKeys(ctx, cache, k, v, positions, slots);
  CachedAttentionForward(ctx, out.value, lse, q.value, cache, positions, slots, spec);
  return out;
}

LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets) {
  const ArenaLabel label(*ctx.arena, "token_logprob");
  const std::int64_t N = x.value.dim(0);
  const DType dtype = AccumulatorOf(x.value.dtype());
  const Tensor logp = ctx.arena->New(dtype, {N}), lse = ctx.arena->New(dtype, {N}),
               entropy = ctx.arena->New(dtype, {N});
  TokenLogprobForward(ctx, logp, lse, entropy, x.value, w.value, targets);
  LogprobResult result{{ToHost(ctx, logp), {}}, {ToHost(ctx, entropy), {}}};
  if (ctx.tape) {
    Arena& host = ctx.HostArena();
    result.logp.grad = host.NewZero(dtype, {N});
    result.entropy.grad = host.New(dtype, {N});
    result.entropy.fresh = new (host.New(DType::kI32, {1}).raw()) bool(true);
    ctx.tape->Record(ctx, [=](Context& c) {
      const Tensor dentropy = *result.entropy.fresh ? Tensor{} : ToDevice(c, result.entropy.grad);
      TokenLogprobBackward(c, x.ClaimGrad(), w.SettleGrad(c), ToDevice(c, result.logp.grad), dentropy, lse, entropy,
                           x.value, w.value, targets);
    });
  }
  return result;
}

}  // namespace swarr
