// SPDX-License-Identifier: Apache-2.0
// The recorded ops: each runs the forward of its kernel (tensor/ops.h, attn/attention.h) and, if a tape is live,
// records its backward. Without a tape they are plain inference, and nothing that only a backward needs outlives the
// call's step. Each labels what it takes from the arena.
#pragma once

#include "attn/attention.h"
#include "autograd/tape.h"
#include "tensor/ops.h"

namespace swarr {

// Shapes and formulas as in tensor/ops.h.
Var Embedding(Context& ctx, const Var& w, const Tensor& ids);
Var Linear(Context& ctx, const Var& x, const Var& w, const Var& b = {}, const Var& residual = {});
Var RmsNorm(Context& ctx, const Var& x, const Var& w, double eps);
Var Rope(Context& ctx, const Var& x, const Tensor& positions, const Tensor& table);
Var SwiGlu(Context& ctx, const Var& gate, const Var& up);
Var Add(Context& ctx, const Var& a, const Var& b);
// x under another shape: no computation, the same value and gradient.
Var Reshape(const Var& x, std::initializer_list<std::int64_t> shape);

// Attention over whole documents, as in attn/attention.h.
Var Attention(Context& ctx, const Var& q, const Var& k, const Var& v, const Tensor& q_pos, const Tensor& documents,
              AttentionSpec spec);
// Stores k and v in the cache and attends to what is there: inference only, throws under a live tape.
Var CachedAttention(Context& ctx, const Var& q, const Tensor& k, const Tensor& v, const KeyCache& cache,
                    const Tensor& positions, const Tensor& slots, AttentionSpec spec);

// Both [N] and the host's, to be read after Wait; gradients are moved when the backward comes to them. The caller fills
// logp.grad, which holds zeros, with dL/dlogp. Where the loss holds the entropy, it writes all of entropy.ClaimGrad(),
// dL/dH, too; if nobody has asked for that, the backward does nothing for it.
struct LogprobResult {
  Var logp;
  Var entropy;
};
LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets);

// Gradient checkpointing (P3): runs f(ctx, x) -> Var [N, C], for x of that shape, without a tape, keeps only its
// result, and runs it again under a local tape when the backward comes by. f must be trivially copyable and do the same
// computation both times; its gradients are then bit-identical to those of a plain call, since the same kernels add the
// same numbers in the same order. Without a live tape only the result is kept as well. Host memory that f takes, for
// closures, is kept until the step ends: the device may still read what lies there.
template <class F>
Var Checkpoint(Context& ctx, const Var& x, const F& f) {
  const ArenaLabel label(*ctx.arena, "checkpoint");
  Context quiet = ctx;
  quiet.tape = nullptr;
  const Var y = NewVar(ctx, x.value.dtype(), {x.value.dim(0), x.value.dim(1)});
  {
    ArenaScope scope(*ctx.arena);
    Copy(ctx, y.value, f(quiet, Var{x.value, {}}).value);
  }
  if (!ctx.tape) return y;
  ctx.tape->Record(ctx, [x, y, f](Context& c) {
    ArenaScope scope(*c.arena);
    Tape local;
    Context recording = c;
    recording.tape = &local;
    const Var again = f(recording, x);
    AddGradient(c, again.ClaimGrad(), y.SettleGrad(c));
    local.Backward(c);
  });
  return y;
}

}  // namespace swarr
