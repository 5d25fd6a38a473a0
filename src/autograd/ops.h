// SPDX-License-Identifier: Apache-2.0
// The recorded ops. Each runs the forward of its kernel (tensor/ops.h, attn/attention.h) and records its backward if a
// tape is live; without a tape it is plain inference. The rule for gradients is in tape.h. Each op labels what it takes
// from the arena.
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
// y[m] = x[rows[m]], rows ascending. places[n] is the row of y that row n of x becomes, or the number of y's rows.
Var SelectRows(Context& ctx, const Var& x, const Tensor& rows, const Tensor& places);
// x under another shape: no computation, the same value and gradient.
Var Reshape(const Var& x, std::initializer_list<std::int64_t> shape);

// Attention over whole documents, as in attn/attention.h.
struct AttentionVars {
  Var q, k, v;
  Var sink_logits = {};
};
Var Attention(Context& ctx, const AttentionVars& in, const Tensor& q_pos, const Tensor& documents, AttentionSpec spec,
              const Tensor& prompts = {});
// Attends to what is stored in a cache, the queries' own keys among it: inference only, throws under a live tape.
Var CachedAttention(Context& ctx, const CachedAttentionInputs& inputs);

// Both are [N] and the host's, to be read after Wait. The caller fills logp.grad, which holds zeros, with dL/dlogp. A
// caller whose loss holds the entropy also writes all of entropy.ClaimGrad(), dL/dentropy; the backward leaves the
// entropy out if nobody has claimed its gradient. The backward moves both gradients to the device.
struct LogprobResult {
  Var logp;
  Var entropy;
};
LogprobResult TokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets);

// The KL of each row beside a teacher that has seen the same tokens (DistillForward): [N] and the host's, to be read
// after Wait. The caller fills its grad, which holds zeros, with dL/dkl. The teacher gets no gradient.
Var DistillKl(Context& ctx, const Var& x, const Var& w, const Tensor& teacher_x, const Tensor& teacher_w,
              const DistillOptions& options);

// Gradient checkpointing (P3): runs f(ctx, x) -> Var, of the shape of x, without a tape, keeps only its result, and
// runs f again under a tape of its own when the backward comes by. Without a live tape it keeps only the result as
// well.
//
// f must be trivially copyable and do the same computation both times. Its gradients are then those of a plain call,
// bit for bit, since the same kernels add the same numbers in the same order. Host memory that f takes, for closures,
// is kept until the step ends: the device may still read what lies there.
template <class F>
Var Checkpoint(Context& ctx, const Var& x, const F& f) {
  const ArenaLabel label(*ctx.arena, "checkpoint");
  const Var y = NewVarLike(ctx, x.value);
  {
    const TapeScope off(ctx, nullptr);
    const ArenaScope scope(*ctx.arena);
    Copy(ctx, y.value, f(ctx, Var{x.value, {}}).value);
  }
  RecordBackward(ctx, [x, y, f](Context& c) {
    const ArenaScope scope(*c.arena);
    Tape tape;
    const TapeScope recording(c, &tape);
    const Var again = f(c, x);
    AddGradient(c, again.ClaimGrad(), y.SettleGrad(c));
    tape.Backward(c);
  });
  return y;
}

}  // namespace swarr
