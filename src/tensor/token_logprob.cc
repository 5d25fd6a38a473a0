// SPDX-License-Identifier: Apache-2.0
#include "tensor/ops.h"
#include "tensor/rows.h"
#include "tensor/softmax_row.h"

namespace swarr {
namespace {

// Rows whose logits are held at a time. It leaves no trace in the results: rows are independent, and the weight
// gradient goes on adding to the same accumulators chunk after chunk.
constexpr std::int64_t kChunkRows = 1024;

// Calls f(begin, rows of x, their logits [rows, V]) for chunk after chunk.
template <class F>
void ForLogitChunks(const Context& ctx, const Tensor& x, const Tensor& w, F&& f) {
  for (std::int64_t begin = 0; begin < x.dim(0); begin += kChunkRows) {
    ArenaScope scope(*ctx.arena);
    const Tensor rows = x.Rows(begin, std::min(x.dim(0), begin + kChunkRows));
    const Tensor logits = ctx.arena->New(x.dtype(), {rows.dim(0), w.dim(0)});
    LinearForward(ctx, logits, rows, w, {});
    f(begin, rows, logits);
  }
}

}  // namespace

void TokenLogprobForward(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                         const Tensor& x, const Tensor& w, const Tensor& targets) {
  const std::int64_t N = x.dim(0), V = w.dim(0);
  CheckShape(targets, DType::kI32, {N}, "targets");
  for (const Tensor& t : {logp, lse, entropy}) CheckShape(t, x.dtype(), {N}, "a result of token_logprob");
  const std::int32_t* target = targets.data<std::int32_t>();
  for (std::int64_t n = 0; n < N; ++n) {
    SWARR_CHECK(target[n] >= 0 && target[n] < V, "target id ", target[n], " is outside the vocabulary of ", V);
  }
  ForLogitChunks(ctx, x, w, [&](std::int64_t begin, const Tensor&, const Tensor& logits) {
    Dispatch(x.dtype(), [&]<class T>() {
      ForRows(ctx, logits.dim(0), V, [&](std::int64_t i) {
        const T* z = logits.data<T>() + i * V;
        const std::int64_t n = begin + i;
        lse.data<T>()[n] = LogSumExp(z, V);
        logp.data<T>()[n] = z[target[n]] - lse.data<T>()[n];
        entropy.data<T>()[n] = SoftmaxEntropy(z, V, lse.data<T>()[n]);
      });
    });
  });
}

// dlogp/dz[v] = [v = target] - p[v]; then dx = dz w and dw += dz^T x. The logits are computed again rather than kept.
void TokenLogprobBackward(const Context& ctx, const Tensor& dx, const Tensor& dw, const Tensor& dlogp,
                          const Tensor& lse, const Tensor& x, const Tensor& w, const Tensor& targets) {
  const std::int64_t V = w.dim(0);
  const std::int32_t* target = targets.data<std::int32_t>();
  ForLogitChunks(ctx, x, w, [&](std::int64_t begin, const Tensor& rows, const Tensor& logits) {
    Dispatch(x.dtype(), [&]<class T>() {
      ForRows(ctx, logits.dim(0), V, [&](std::int64_t i) {
        T* z = logits.data<T>() + i * V;
        const std::int64_t n = begin + i;
        const T c = dlogp.data<T>()[n];
        for (std::int64_t v = 0; v < V; ++v) z[v] = -c * Exp(z[v] - lse.data<T>()[n]);
        z[target[n]] += c;
      });
    });
    const Tensor dx_rows = dx.empty() ? dx : dx.Rows(begin, begin + rows.dim(0));
    LinearBackward(ctx, dx_rows, dw, {}, logits, rows, w);
  });
}

}  // namespace swarr
