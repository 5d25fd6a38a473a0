// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "tensor/ops.h"
#include "tensor/philox.h"
#include "tensor/rows.h"
#include "tensor/softmax_row.h"

namespace swarr {
namespace {

// The index of the largest logit plus noise; the first of equals.
template <class T>
std::int32_t Choose(const T* z, std::int64_t V, const SampleRow& row, std::int32_t position) {
  if (row.temperature == 0) return static_cast<std::int32_t>(std::max_element(z, z + V) - z);
  std::int32_t best = 0;
  double best_score = -std::numeric_limits<double>::infinity();
  PhiloxWords words{};
  for (std::int64_t v = 0; v < V; ++v) {
    if (v % 4 == 0) {
      words = Philox(row.key, {static_cast<std::uint32_t>(v / 4), static_cast<std::uint32_t>(position), 0, 0});
    }
    const double gumbel = -std::log(-std::log(UniformFrom(words[static_cast<std::size_t>(v % 4)])));
    const double score = static_cast<double>(z[v]) / row.temperature + gumbel;
    if (score > best_score) {
      best_score = score;
      best = static_cast<std::int32_t>(v);
    }
  }
  return best;
}

}  // namespace

void SampleForward(const Context& ctx, const Tensor& tokens, const Tensor& logp, const Tensor& x, const Tensor& w,
                   const Tensor& positions, const SampleRow* rows) {
  RequireNoTape(ctx, "sampling");
  const std::int64_t N = x.dim(0), V = w.dim(0);
  CheckShape(tokens, DType::kI32, {N}, "sampled tokens");
  CheckShape(logp, x.dtype(), {N}, "sampled log-probabilities");
  CheckShape(positions, DType::kI32, {N}, "sampling positions");
  ArenaScope scope(*ctx.arena);
  const Tensor logits = ctx.arena->New(x.dtype(), {N, V});
  LinearForward(ctx, logits, x, w, {});
  Dispatch(x.dtype(), [&]<class T>() {
    ForRows(ctx, N, V * 64, [&](std::int64_t n) {  // the two logarithms make one entry worth some 64 multiply-adds
      const T* z = logits.data<T>() + n * V;
      const std::int32_t token = Choose(z, V, rows[n], positions.data<std::int32_t>()[n]);
      tokens.data<std::int32_t>()[n] = token;
      logp.data<T>()[n] = z[token] - LogSumExp(z, V);
    });
  });
}

}  // namespace swarr
