// SPDX-License-Identifier: Apache-2.0
// The LM head: token_logprob and distillation, which training records, and sampling. All compute logits by the same
// product, and log-probabilities by the same softmax.
#include <algorithm>
#include <utility>

#include "tensor/fused/head.h"
#include "tensor/kernels/kernels.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// Rows whose logits are held at a time. The number leaves no trace in forward values, whose rows are independent. On
// the processor it leaves none in the weight gradient either, which goes on adding to the same accumulators; on a CUDA
// device it is part of that gradient's order of sums. A device gets more rows at a time, to keep all of it busy, and
// all that have few logits.
//
// Tiles of dx have 256 rows, for a pair of multiprocessors, and 192 or 128 columns; wide ones are 1.05 times as fast.
// The rows are those by which 66 pairs are used best in one round or two.
std::int64_t ChunkRows(const Context& ctx, std::int64_t C, std::int64_t V) {
  constexpr std::int64_t kPairs = 66, kTileRows = 256, kMost = 8192, kFewLogits = std::int64_t{1} << 28;
  if (ctx.device() == Device::kCpu) return 1024;
  std::int64_t busy = kTileRows, most_used = 0;
  for (const auto& [columns, rate] : {std::pair{192, 1050}, {128, 1000}}) {
    for (const int rounds : {1, 2}) {
      const std::int64_t across = (C + columns - 1) / columns,
                         down = std::max<std::int64_t>(1, kPairs * rounds / across),
                         rows = std::min(kMost, down * kTileRows),
                         used = C * rows * rate / (columns * kTileRows * kPairs * rounds);
      if (used < most_used) continue;
      most_used = used, busy = rows;
    }
  }
  return std::max(busy, kFewLogits / V / kTileRows * kTileRows);
}

// z = x w^T in the arena, not rounded to bf16.
Tensor LogitsOf(const Context& ctx, const Tensor& x, const Tensor& w) {
  const Tensor logits = ctx.arena->New(AccumulatorOf(x.dtype()), {x.dim(0), w.dim(0)});
  LinearForward(ctx, logits, x, w);
  return logits;
}

// Calls f(begin, end) for chunk after chunk of the rows of x, whose logits are x w^T.
template <class F>
void ForChunks(const Context& ctx, const Tensor& x, const Tensor& w, F&& f) {
  const std::int64_t chunk = ChunkRows(ctx, x.dim(1), w.dim(0));
  for (std::int64_t begin = 0; begin < x.dim(0); begin += chunk) {
    ArenaScope scope(*ctx.arena);
    f(begin, std::min(x.dim(0), begin + chunk));
  }
}

Tensor RowsOf(const Tensor& t, std::int64_t begin, std::int64_t end) { return t.empty() ? t : t.Rows(begin, end); }

// Where the gradients of logits of these rows go: over the logits, unless they are rounded.
Tensor GradientsOf(const Context& ctx, const Tensor& x, const Tensor& logits) {
  return x.dtype() == logits.dtype() ? logits : ctx.arena->New(x.dtype(), {logits.dim(0), logits.dim(1)});
}

// Calls f(begin, end), which returns the gradient dz of a chunk's logits; then adds dx = dz w and dw += dz^T x. The
// logits are computed again rather than kept.
template <class F>
void BackwardInChunks(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& x, const Tensor& w, F&& f) {
  if (dw.fresh()) FillZero(ctx, dw);  // the chunks add to it
  const Tensor sums = dw.Over(dw.raw());
  ForChunks(ctx, x, w, [&](std::int64_t begin, std::int64_t end) {
    LinearBackward(ctx, RowsOf(dx, begin, end), sums, {}, f(begin, end), x.Rows(begin, end), w);
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
  if (FusedHeadTakes(ctx, inputs)) return FusedTokenLogprob(ctx, logp, lse, entropy, inputs);
  ForChunks(ctx, x, w, [&](std::int64_t begin, std::int64_t end) {
    const Tensor logits = LogitsOf(ctx, x.Rows(begin, end), w);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::LogSoftmaxRows(ctx, logp.Rows(begin, end), lse.Rows(begin, end), entropy.Rows(begin, end), logits,
                                   targets.Rows(begin, end));
    });
  });
}

void TokenLogprobBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dlogp,
                          const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                          const LogprobInputs& inputs) {
  const auto gradient = [&](std::int64_t begin, std::int64_t end) {
    const auto rows = [&](const Tensor& t) { return RowsOf(t, begin, end); };
    const LogprobInputs chunk{rows(inputs.x), inputs.w, rows(inputs.targets)};
    if (FusedHeadTakes(ctx, chunk)) {
      const Tensor dlogits = ctx.arena->New(chunk.x.dtype(), {end - begin, inputs.w.dim(0)});
      FusedLogitGradients(ctx, dlogits, rows(dlogp), rows(dentropy), rows(lse), rows(entropy), chunk);
      return dlogits;
    }
    const Tensor logits = LogitsOf(ctx, chunk.x, inputs.w), dlogits = GradientsOf(ctx, chunk.x, logits);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::LogSoftmaxRowsBackward(ctx, dlogits, rows(dlogp), rows(dentropy), rows(lse), rows(entropy), logits,
                                           chunk.targets);
    });
    return dlogits;
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
  ForChunks(ctx, in.x, in.w, [&](std::int64_t begin, std::int64_t end) {
    const Tensor logits = LogitsOf(ctx, in.x.Rows(begin, end), in.w);
    const Tensor teacher_logits = LogitsOf(ctx, in.teacher_x.Rows(begin, end), in.teacher_w);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::DistillRows(ctx, RowsOf(results, begin, end), logits, teacher_logits, in.options);
    });
  });
}

void DistillBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dkl,
                     const DistillResults& results, const DistillInputs& in) {
  const auto gradient = [&](std::int64_t begin, std::int64_t end) {
    const Tensor logits = LogitsOf(ctx, in.x.Rows(begin, end), in.w), dlogits = GradientsOf(ctx, in.x, logits);
    const Tensor teacher_logits = LogitsOf(ctx, in.teacher_x.Rows(begin, end), in.teacher_w);
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::DistillRowsBackward(ctx, dlogits, dkl.Rows(begin, end), RowsOf(results, begin, end), logits,
                                        teacher_logits, in.options);
    });
    return dlogits;
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
