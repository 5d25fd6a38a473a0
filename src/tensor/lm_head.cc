// SPDX-License-Identifier: Apache-2.0
// The LM head: token_logprob, which training records, and sampling. Both compute logits by the same product, and
// log-probabilities by the same softmax.
#include <algorithm>

#include "tensor/kernels/kernels.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// Rows whose logits are held at a time. The number leaves no trace in forward values, whose rows are independent. On
// the processor it leaves none in the weight gradient either, which goes on adding to the same accumulators; on a CUDA
// device it is part of that gradient's order of sums. A device gets more rows at a time, to keep all of it busy.
std::int64_t ChunkRows(const Context& ctx) { return ctx.device() == Device::kCuda ? 4096 : 1024; }

// Calls f(begin, end, logits [end - begin, V]) for chunk after chunk of the rows of x. Logits are not rounded to bf16.
template <class F>
void ForLogitChunks(const Context& ctx, const Tensor& x, const Tensor& w, F&& f) {
  const std::int64_t chunk = ChunkRows(ctx);
  for (std::int64_t begin = 0; begin < x.dim(0); begin += chunk) {
    ArenaScope scope(*ctx.arena);
    const std::int64_t end = std::min(x.dim(0), begin + chunk);
    const Tensor logits = ctx.arena->New(AccumulatorOf(x.dtype()), {end - begin, w.dim(0)});
    LinearForward(ctx, logits, x.Rows(begin, end), w);
    f(begin, end, logits);
  }
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

// The gradient of the logits, then dx = dz w and dw += dz^T x. The logits are computed again rather than kept.
void TokenLogprobBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dlogp,
                          const Tensor& dentropy, const Tensor& lse, const Tensor& entropy,
                          const LogprobInputs& inputs) {
  const Tensor &x = inputs.x, &w = inputs.w, &targets = inputs.targets;
  if (dw.fresh()) FillZero(ctx, dw);  // the chunks add to it
  const Tensor sums = dw.Over(dw.raw());
  const auto rows = [](const Tensor& t, std::int64_t begin, std::int64_t end) {
    return t.empty() ? t : t.Rows(begin, end);
  };
  ForLogitChunks(ctx, x, w, [&](std::int64_t begin, std::int64_t end, const Tensor& logits) {
    const bool rounds = x.dtype() != logits.dtype();
    const Tensor dlogits = rounds ? ctx.arena->New(x.dtype(), {logits.dim(0), logits.dim(1)}) : logits;
    OnDevice(ctx, [&]<class Set>() {
      Kernels<Set>::LogSoftmaxRowsBackward(ctx, dlogits, dlogp.Rows(begin, end), rows(dentropy, begin, end),
                                           lse.Rows(begin, end), entropy.Rows(begin, end), logits,
                                           targets.Rows(begin, end));
    });
    LinearBackward(ctx, rows(dx, begin, end), sums, {}, dlogits, x.Rows(begin, end), w);
  });
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
