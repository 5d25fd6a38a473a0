// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"

namespace swarr {

Var Embedding(Context& ctx, const Var& w, const Tensor& ids) {
  const Var y = NewVar(ctx, w.value.dtype(), {ids.dim(0), w.value.dim(1)});
  EmbeddingForward(ctx, y.value, w.value, ids);
  if (ctx.tape && !w.grad.empty()) {
    ctx.tape->Record(ctx, [=](Context& c) { EmbeddingBackward(c, w.grad, y.grad, ids); });
  }
  return y;
}

Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b) {
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), w.value.dim(0)});
  LinearForward(ctx, y.value, x.value, w.value, b.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) { LinearBackward(c, x.grad, w.grad, b.grad, y.grad, x.value, w.value); });
  }
  return y;
}

Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps) {
  const Var y = x.value.rank() == 3 ? NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1), x.value.dim(2)})
                                    : NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1)});
  const Tensor rstd = ctx.arena->New(x.value.dtype(), {x.value.size() / w.value.dim(0)});
  RmsNormForward(ctx, y.value, rstd, x.value, w.value, eps);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) { RmsNormBackward(c, x.grad, w.grad, y.grad, x.value, w.value, rstd); });
  }
  return y;
}

Var Rope(Context& ctx, const Var& x, const Tensor& positions, const Tensor& table) {
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1), x.value.dim(2)});
  RopeForward(ctx, y.value, x.value, positions, table);
  if (ctx.tape) ctx.tape->Record(ctx, [=](Context& c) { RopeBackward(c, x.grad, y.grad, positions, table); });
  return y;
}

Var SwiGlu(Context& ctx, const Var& gate, const Var& up) {
  const Var y = NewVar(ctx, gate.value.dtype(), {gate.value.dim(0), gate.value.dim(1)});
  SwiGluForward(ctx, y.value, gate.value, up.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) { SwiGluBackward(c, gate.grad, up.grad, y.grad, gate.value, up.value); });
  }
  return y;
}

Var Add(Context& ctx, const Var& a, const Var& b) {
  const Var y = NewVar(ctx, a.value.dtype(), {a.value.dim(0), a.value.dim(1)});
  AddForward(ctx, y.value, a.value, b.value);
  if (ctx.tape) ctx.tape->Record(ctx, [=](Context& c) { AddBackward(c, a.grad, b.grad, y.grad); });
  return y;
}

Var Reshape(const Var& x, std::initializer_list<std::int64_t> shape) {
  return {x.value.Reshape(shape), x.grad.empty() ? x.grad : x.grad.Reshape(shape)};
}

Var Attention(Context& ctx, const Var& q, const Var& k, const Var& v, const KeyLayout& layout, const Tensor& documents,
              AttentionSpec spec) {
  const std::int64_t N = q.value.dim(0), H = q.value.dim(1), D = q.value.dim(2);
  const Var out = NewVar(ctx, q.value.dtype(), {N, H, D});
  const Tensor lse = ctx.arena->New(q.value.dtype(), {N, H});
  AttentionForward(ctx, out.value, lse, q.value, k.value, v.value, layout, spec);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& c) {
      AttentionBackward(c, q.grad, k.grad, v.grad, out.grad, out.value, lse, q.value, k.value, v.value, layout,
                        documents, spec);
    });
  }
  return out;
}

Var CachedAttention(Context& ctx, const Var& q, const Tensor& k, const Tensor& v, const KeyLayout& layout,
                    AttentionSpec spec) {
  RequireNoTape(ctx, "attention over a cache");
  const std::int64_t N = q.value.dim(0), H = q.value.dim(1), D = q.value.dim(2);
  const Var out = NewVar(ctx, q.value.dtype(), {N, H, D});
  const Tensor lse = ctx.arena->New(q.value.dtype(), {N, H});
  AttentionForward(ctx, out.value, lse, q.value, k, v, layout, spec);
  return out;
}

LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets) {
  const std::int64_t N = x.value.dim(0);
  const Var logp = NewVar(ctx, x.value.dtype(), {N});
  const Tensor lse = ctx.arena->New(x.value.dtype(), {N});
  const Tensor entropy = ctx.arena->New(x.value.dtype(), {N});
  TokenLogprobForward(ctx, logp.value, lse, entropy, x.value, w.value, targets);
  if (ctx.tape) {
    ctx.tape->Record(
        ctx, [=](Context& c) { TokenLogprobBackward(c, x.grad, w.grad, logp.grad, lse, x.value, w.value, targets); });
  }
  return {logp, entropy};
}

}  // namespace swarr
