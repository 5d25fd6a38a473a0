// SPDX-License-Identifier: Apache-2.0
#include "autograd/blocks.h"

#include "tensor/fused/norm.h"

namespace swarr {
namespace {

// A new result x + f(x) that continues the gradient of x, where that is a result's own and nobody has claimed it.
Var ContinueVar(const Context& ctx, const Var& x) {
  const Tensor value = ctx.arena->NewLike(x.value);
  if (!ctx.tape || !x.fresh || !*x.fresh) return WithGrad(ctx, *ctx.arena, value);
  return {value, x.grad, new (ctx.HostArena().NewArray<bool>(1)) bool(true)};
}

// Hands the gradient of such a result on to x. Returns that of x, now a sum, for f's backward to add to.
Tensor PassOn(const Context& ctx, const Var& x, const Tensor& dy) {
  const Tensor dx = x.ClaimGrad();
  if (dx.raw() != dy.raw()) {
    AddGradient(ctx, dx, dy);
  } else {
    SWARR_CHECK(dx.fresh(), "a value was used again after the block that continues its gradient");
  }
  return dx.Over(dx.raw());
}

// Checks a value within a block under the name of the op that makes it.
void TraceAs(const Context& ctx, const char* op, const Tensor& t) {
  const ArenaLabel label(*ctx.arena, op);
  Traced(ctx, {t, {}});
}

Tensor NewSums(const Context& ctx, DType dtype, std::int64_t rows) {
  return ctx.arena->New(AccumulatorOf(dtype), {rows});
}

// [N, H, D] as the rows of a product.
Tensor AsRows(const Tensor& heads) { return heads.Reshape({heads.dim(0), heads.dim(1) * heads.dim(2)}); }

// One of the products of one input, in a backward: y = x w^T + b.
struct Branch {
  Tensor dy;
  Var w, b = {};
};

// dx = the sum of the branches' dy w, in this order.
void WriteInputGradient(const Context& ctx, const Tensor& dx, std::initializer_list<Branch> branches) {
  Few<InputGradientTerm> terms;
  for (const Branch& branch : branches) terms.Add({branch.dy, branch.w.value});
  LinearsInputGradient(ctx, dx, terms.view());
}

void AddWeightGradients(const Context& ctx, const Tensor& x, std::initializer_list<Branch> branches) {
  Few<WeightGradient> gradients;
  for (const Branch& branch : branches) {
    if (const Tensor dw = branch.w.ClaimGrad(); !dw.empty()) gradients.Add({dw, branch.dy});
    LinearBackward(ctx, {}, {}, branch.b.ClaimGrad(), branch.dy, x, branch.w.value);
  }
  LinearsWeightGradients(ctx, x, gradients.view());
}

// The backward of branches m w^T + b with m = RmsNorm(x): adds to dx and to the gradients of all weights. m is made
// again.
void NormedBranchesBackward(const Context& ctx, const Tensor& dx, const Tensor& x, const Tensor& rstd, const Var& norm,
                            std::initializer_list<Branch> branches) {
  const ArenaScope scope(*ctx.arena);
  const Tensor normed = ctx.arena->NewLike(x), dnormed = ctx.arena->NewLike(x);
  WriteInputGradient(ctx, dnormed, branches);
  RmsNormBackward(ctx, dx, norm.ClaimGrad(), dnormed, x, norm.value, rstd, normed);
  AddWeightGradients(ctx, normed, branches);
}

// From the gradient of heads to that of the product before their norm.
Tensor HeadBackward(const Context& ctx, const Tensor& d, const Var& norm, const Tensor& plain, const Tensor& rstd) {
  if (plain.empty()) return d;
  const Tensor dplain = ctx.arena->NewLike(plain);
  RmsNormBackward(ctx, dplain.Fresh(), norm.ClaimGrad(), d, plain, norm.value, rstd);
  return dplain;
}

}  // namespace

Projected Project(Context& ctx, const Tensor& x, const AttentionWeights& w, const RowPositions& rows, double eps) {
  const std::int64_t N = x.dim(0), D = rows.table.dim(1);
  const auto heads_of = [&](const Var& weight) { return ctx.arena->New(x.dtype(), {N, weight.value.dim(0) / D, D}); };
  Projected p{.heads = {heads_of(w.q), heads_of(w.k), heads_of(w.v)}, .rstd = NewSums(ctx, x.dtype(), N)};
  auto& [q, k, v] = p.heads;
  // Each op's result is looked at where values are traced.
  const auto turned = [&](const Var& norm) { return norm.value.empty() && !ctx.trace_non_finite; };
  {
    const ArenaScope scope(*ctx.arena);
    const Tensor normed = ctx.arena->NewLike(x);
    RmsNormForward(ctx, normed, p.rstd, x, w.norm.value, eps);
    TraceAs(ctx, "rmsnorm", normed);
    const LinearResult products[] = {{AsRows(q), w.q.value, w.q_bias.value, turned(w.q_norm)},
                                     {AsRows(k), w.k.value, w.k_bias.value, turned(w.k_norm)},
                                     {AsRows(v), w.v.value, w.v_bias.value}};
    LinearsForward(ctx, normed, products, rows);
    for (const Tensor& t : {q, k, v}) TraceAs(ctx, "linear", t);
  }
  const auto finish = [&](Tensor& heads, Tensor& plain, Tensor& rstd, const Var& norm) {
    if (turned(norm)) return;
    if (!norm.value.empty()) {
      plain = heads;
      heads = ctx.arena->NewLike(plain);
      rstd = NewSums(ctx, x.dtype(), N * plain.dim(1));
      if (FusedNormAndTurn(ctx, heads, rstd, plain, norm.value, eps, rows)) return;
      RmsNormForward(ctx, heads, rstd, plain, norm.value, eps);
      TraceAs(ctx, "rmsnorm", heads);
    }
    TurnHeads(ctx, AsRows(heads), rows);
    TraceAs(ctx, "rope", heads);
  };
  finish(q, p.plain_q, p.q_rstd, w.q_norm);
  finish(k, p.plain_k, p.k_rstd, w.k_norm);
  return p;
}

Var SelfAttention(Context& ctx, const Var& x, const AttentionWeights& w, const RowPositions& rows,
                  const AttentionDocuments& documents, double eps) {
  const ArenaLabel label(*ctx.arena, "self attention");
  const Var y = ContinueVar(ctx, x);
  const Projected p = Project(ctx, x.value, w, rows, eps);
  const auto [q, k, v] = p.heads;
  const Tensor attended = ctx.arena->NewLike(q), lse = ctx.arena->New(AccumulatorOf(q.dtype()), {q.dim(0), q.dim(1)});
  const AttentionInputs inputs{
      q, k, v, rows.positions, documents.documents, documents.spec, w.sinks.value, documents.prompts};
  AttentionForward(ctx, attended, lse, inputs);
  TraceAs(ctx, "attention", attended);
  LinearForward(ctx, y.value, AsRows(attended), w.o.value, {}, x.value);
  TraceAs(ctx, "linear", y.value);
  RecordBackward(ctx, [=](Context& c) {
    const ArenaScope scope(*c.arena);
    const Tensor& dy = y.SettleGrad(c);
    const Tensor dattended = c.arena->NewLike(attended), dq = c.arena->NewLike(inputs.q),
                 dk = c.arena->NewLike(inputs.k), dv = c.arena->NewLike(inputs.v);
    LinearBackward(c, AsRows(dattended).Fresh(), w.o.ClaimGrad(), {}, dy, AsRows(attended), w.o.value);
    const Tensor dx = PassOn(c, x, dy);
    AttentionBackward(c, {dq.Fresh(), dk.Fresh(), dv.Fresh(), w.sinks.ClaimGrad(), rows.table}, dattended, attended,
                      lse, inputs);
    const Tensor dq_product = HeadBackward(c, dq, w.q_norm, p.plain_q, p.q_rstd),
                 dk_product = HeadBackward(c, dk, w.k_norm, p.plain_k, p.k_rstd);
    NormedBranchesBackward(
        c, dx, x.value, p.rstd, w.norm,
        {{AsRows(dv), w.v, w.v_bias}, {AsRows(dk_product), w.k, w.k_bias}, {AsRows(dq_product), w.q, w.q_bias}});
  });
  return y;
}

Var FeedForward(Context& ctx, const Var& x, const FeedForwardWeights& w, double eps) {
  const ArenaLabel label(*ctx.arena, "feed forward");
  const Tensor& in = x.value;
  const DType dtype = in.dtype();
  const std::int64_t N = in.dim(0), F = w.gate.value.dim(0);
  const auto units = [N, F, dtype](const Context& c) { return c.arena->New(dtype, {N, F}); };
  const Var y = ContinueVar(ctx, x);
  const Tensor rstd = NewSums(ctx, dtype, N), gate = units(ctx), up = units(ctx);
  {
    const ArenaScope scope(*ctx.arena);
    const Tensor normed = ctx.arena->NewLike(in);
    RmsNormForward(ctx, normed, rstd, in, w.norm.value, eps);
    TraceAs(ctx, "rmsnorm", normed);
    const LinearResult products[] = {{up, w.up.value}, {gate, w.gate.value}};
    LinearsForward(ctx, normed, products);
    for (const Tensor& t : {gate, up}) TraceAs(ctx, "linear", t);
  }
  {
    const ArenaScope scope(*ctx.arena);
    const Tensor gated = units(ctx);
    SwiGluForward(ctx, gated, gate, up);
    TraceAs(ctx, "swiglu", gated);
    LinearForward(ctx, y.value, gated, w.down.value, {}, in);
    TraceAs(ctx, "linear", y.value);
  }
  RecordBackward(ctx, [=](Context& c) {
    const ArenaScope scope(*c.arena);
    const Tensor& dy = y.SettleGrad(c);
    const Tensor dgate = units(c), dup = units(c), gated = units(c);  // the last one holds its gradient first
    MatMulNN(c, gated, dy, w.down.value, /*accumulate=*/false);
    SwiGluBackward(c, dgate.Fresh(), dup.Fresh(), gated, gate, up, gated);
    LinearBackward(c, {}, w.down.ClaimGrad(), {}, dy, gated, w.down.value);
    NormedBranchesBackward(c, PassOn(c, x, dy), x.value, rstd, w.norm, {{dgate, w.gate}, {dup, w.up}});
  });
  return y;
}

}  // namespace swarr
