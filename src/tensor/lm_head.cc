// SPDX-License-Identifier: Apache-2.0
// The LM head: token_logprob and distillation, which training records, and sampling. All compute logits by the same
// product, and log-probabilities by the same softmax.
#include <algorithm>

#include "tensor/kernels/kernels.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// Rows whose logits are held at a time. The number leaves no trace in forward values, whose rows are independent. On
// the processor it leaves none in the weight gradient either, which goes on adding to the same accumulators; on a CUDA
// device it is part of that gradient's order of sums. A device gets more rows at a time, to keep all of it busy.
std::int64_t ChunkRows(const Context& ctx) { return ctx.device() == Device::kCuda ? 4096 : 1024; }

// z = x w^T in the arena, not rounded to bf16.
Tensor LogitsOf(const Context& ctx, const Tensor& x, const Tensor& w) {
  const Tensor logits = ctx.arena->New(AccumulatorOf(x.dtype()), {x.dim(0), w.dim(0)});
  LinearForward(ctx, logits, x, w);
  return logits;
}

// Calls f(begin, end, logits [end - begin, V]) for chunk after chunk of the rows of x.
template <class F>
void ForLogitChunks(const Context& ctx, const Tensor& x, const Tensor& w, F&& f) {
  const std::int64_t chunk = ChunkRows(ctx);
  for (std::int64_t begin = 0; begin < x.dim(0); begin += chunk) {
    ArenaScope scope(*ctx.arena);
    const std::int64_t end = std::min(x.dim(0), begin + chunk);
    f(begin, end, LogitsOf(ctx, x.Rows(begin, end), w));
  }
}

Tensor RowsOf(const Tensor& t, std::int64_t begin, std::int64_t end) { return t.empty() ? t : t.Rows(begin, end); }

// Calls f(begin, end, dlogits, logits), which writes the gradient of a chunk's logits, perhaps over them; then adds
// dx = dz w and dw += dz^T x. The logits are computed again rather than kept.
template <class F>
void BackwardInChunks(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& x, const Tensor& w, F&& f) {
  if (dw.fresh()) FillZero(ctx, dw);  // the chunks add to it
  const Tensor sums = dw.Over(dw.raw());
  ForLogitChunks(ctx, x, w, [&](std::int64_t begin, std::int64_t end, const Tensor& logits) {
    const bool rounds = x.dtype() != logits.dtype();
    const Tensor dlogits = rounds ? ctx.arena->New(x.dtype(), {logits.dim(0), logits.dim(1)}) : logits;
    f(begin, end, dlogits, logits);
    LinearBackward(ctx, RowsOf(dx, begin, end), sums, {}, dlogits, x.Rows(begin, end), w);
  });
}

// The rows of a chunk.
DistillResults RowsOf(const DistillResults& r, std::int64_t begin, std::int64_t end) {
  return {r.kl.Rows(begin, end), r.lse.Rows(begin, end), r.teacher_lse.Rows(begin, end)};
}

}  // namespace

void TokenLogprobForward(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                         const LogprobInputs& inputs) {
  const Tensor &x = inputs.x, &w = inputs.w, &targets = inputs.targets;
  const std::int64_t N = x.dim(0);
  CheckShape(targets, DType::kI32, {N}, "targets");
  for (const Tensor& t : {logp, lse, entropy}) {
    CheckShape(t, AccumulatorOf(x.dtype()), {N}, "a result of token_logprob");
  }
  ForLogitChunks(ctx, x, w, [&](std::int64_t begin, std::int64_t end, const Tensor& logits) {
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::LogSoftmaxRows(ctx, logp.Rows(begin, end), lse.Rows(begin, end), entropy.Rows(begin, end), logits,
                                   targets.Rows(begin, end));
    });
  });
}

void TokenLogprobBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dlogp,
                          const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                          const LogprobInputs& inputs) {
  const auto gradient = [&](std::int64_t begin, std::int64_t end, const Tensor& dlogits, const Tensor& logits) {
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::LogSoftmaxRowsBackward(ctx, dlogits, dlogp.Rows(begin, end), RowsOf(dentropy, begin, end),
                                           lse.Rows(begin, end), entropy.Rows(begin, end), logits,
                                           inputs.targets.Rows(begin, end));
    });
  };
  BackwardInChunks(ctx, dx, dw, inputs.x, inputs.w, gradient);
}

void DistillForward(const Context& ctx, const DistillResults& results, const DistillInputs& in) {
  const std::int64_t N = in.x.dim(0), V = in.w.dim(0);
  CheckShape(in.teacher_x, in.x.dtype(), {N, -1}, "the teacher's hidden states");
  CheckShape(in.teacher_w, in.x.dtype(), {V, in.teacher_x.dim(1)}, "the teacher's LM head");
  SWARR_CHECK(in.options.temperature > 0, "distillation at a temperature of ", in.options.temperature,
              ", which must be above 0");
  for (const Tensor& t : {results.kl, results.lse, results.teacher_lse}) {
    CheckShape(t, AccumulatorOf(in.x.dtype()), {N}, "a result of distillation");
  }
  ForLogitChunks(ctx, in.x, in.w, [&](std::int64_t begin, std::int64_t end, const Tensor& logits) {
    const Tensor teacher_logits = LogitsOf(ctx, in.teacher_x.Rows(begin, end), in.teacher_w);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::DistillRows(ctx, RowsOf(results, begin, end), logits, teacher_logits, in.options);
    });
  });
}

void DistillBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dkl,
                     const DistillResults& results, const DistillInputs& in) {
  const auto gradient = [&](std::int64_t begin, std::int64_t end, const Tensor& dlogits, const Tensor& logits) {
    const Tensor teacher_logits = LogitsOf(ctx, in.teacher_x.Rows(begin, end), in.teacher_w);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::DistillRowsBackward(ctx, dlogits, dkl.Rows(begin, end), RowsOf(results, begin, end), logits,
                                        teacher_logits, in.options);
    });
  };
  BackwardInChunks(ctx, dx, dw, in.x, in.w, gradient);
}

void SampleForward(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& x, const Tensor& w,
                   const Tensor& positions, const SampleRow* rows) {
  RequireNoTape(ctx, "sampling");
  const std::int64_t N = x.dim(0), V = w.dim(0);
  const DType dtype = AccumulatorOf(x.dtype());
  CheckShape(tokens, DType::kI32, {N}, "sampled tokens");
  CheckShape(logp, dtype, {N}, "sampled log-probabilities");
  CheckShape(positions, DType::kI32, {N}, "sampling positions");
  ArenaScope scope(*ctx.arena);
  const Tensor logits = ctx.arena->New(dtype, {N, V});
  LinearForward(ctx, logits, x, w);
  OnDevice(ctx, [&]<class Set>() { Kernels<Set>::SampleRows(ctx, tokens, logp, logits, positions, rows); });
}

}  // namespace swarr
