// SPDX-License-Identifier: Apache-2.0
#include "rounded_ops.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace swarr {
namespace {

// One query of one head: its visible keys and what attention does with them.
struct Query {
  std::vector<std::int64_t> rows;  // of the visible keys
  std::vector<double> scores;      // scaled
};

struct Attended {
  const Tensor q, k, v, q_pos, documents;
  AttentionSpec spec;
  std::int64_t H = q.dim(1), G = k.dim(1), D = q.dim(2);
  double scale = 1 / std::sqrt(static_cast<double>(D));

  const double* Row(const Tensor& t, std::int64_t n, std::int64_t head) const {
    return t.data<double>() + (n * t.dim(1) + head) * D;
  }
  double Dot(const double* a, const double* b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
    return sum;
  }
  void AddTo(double* to, double weight, const double* x) const {
    for (std::int64_t d = 0; d < D; ++d) to[d] += weight * x[d];
  }
  std::int64_t HeadOfKey(std::int64_t h) const { return h / (H / G); }

  Query At(std::int64_t n, std::int64_t h) const {
    const std::int32_t* first = documents.data<std::int32_t>();
    std::int64_t document = 0;
    while (n >= first[document + 1]) ++document;
    Query query;
    for (std::int32_t j = first[document]; j < first[document + 1]; ++j) {
      if (!Visible(q_pos.data<std::int32_t>()[n], j - first[document], spec)) continue;
      query.rows.push_back(j);
      query.scores.push_back(scale * Dot(Row(q, n, h), Row(k, j, HeadOfKey(h))));
    }
    return query;
  }

  void Forward(const Tensor& out, const Tensor& lse) const {
    for (std::int64_t n = 0; n < q.dim(0); ++n) {
      for (std::int64_t h = 0; h < H; ++h) {
        const Query query = At(n, h);
        std::vector<double> to(static_cast<std::size_t>(D), 0.0);
        double sum = 0, largest = -INFINITY;
        for (double s : query.scores) largest = std::max(largest, s);
        for (std::size_t j = 0; j < query.rows.size(); ++j) {
          const double weight = std::exp(query.scores[j] - largest);
          sum += weight;
          AddTo(to.data(), RoundToBF16(weight), Row(v, query.rows[j], HeadOfKey(h)));
        }
        lse.data<double>()[n * H + h] = largest + std::log(sum);
        for (std::size_t d = 0; d < to.size(); ++d) {
          out.data<double>()[(n * H + h) * D + static_cast<std::int64_t>(d)] =
              query.rows.empty() ? 0 : RoundToBF16(to[d] / sum);
        }
      }
    }
  }

  void Backward(const Tensor& out, const Tensor& lse, const Tensor& dout, const Tensor& dq, const Tensor& dk,
                const Tensor& dv) const {
    for (std::int64_t n = 0; n < q.dim(0); ++n) {
      for (std::int64_t h = 0; h < H; ++h) {
        const Query query = At(n, h);
        const std::int64_t g = HeadOfKey(h), at = (n * H + h) * D;
        const double *grad = Row(dout, n, h), delta = Dot(grad, Row(out, n, h));
        for (std::size_t j = 0; j < query.rows.size(); ++j) {
          const std::int64_t key = query.rows[j];
          const double p = std::exp(query.scores[j] - lse.data<double>()[n * H + h]);
          const double ds = RoundToBF16(scale * p * (Dot(grad, Row(v, key, g)) - delta));
          AddTo(dv.data<double>() + (key * G + g) * D, RoundToBF16(p), grad);
          AddTo(dq.data<double>() + at, ds, Row(k, key, g));
          AddTo(dk.data<double>() + (key * G + g) * D, ds, Row(q, n, h));
        }
      }
    }
  }
};

// z = w x[n]
std::vector<double> LogitsOf(const Tensor& x, const Tensor& w, std::int64_t n) {
  std::vector<double> z(static_cast<std::size_t>(w.dim(0)), 0.0);
  const std::int64_t C = w.dim(1);
  for (std::size_t v = 0; v < z.size(); ++v) {
    for (std::int64_t c = 0; c < C; ++c) {
      z[v] += x.data<double>()[n * C + c] * w.data<double>()[static_cast<std::int64_t>(v) * C + c];
    }
  }
  return z;
}

}  // namespace

double RoundToBF16(double x) { return static_cast<double>(static_cast<float>(BFloat16(x))); }

void RoundToBF16(const Tensor& t) {
  for (std::int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = RoundToBF16(t.data<double>()[i]);
}

Var Rounded(Context& ctx, const Var& x) {
  const Var y = NewVar(ctx, DType::kF64, {x.value.dim(0), x.value.dim(1)});
  Copy(y.value, x.value);
  RoundToBF16(y.value);
  RecordBackward(ctx, [=](Context& c) {
    const Tensor &dx = x.SettleGrad(c), &dy = y.SettleGrad(c);
    for (std::int64_t i = 0; i < dx.size(); ++i) dx.data<double>()[i] += RoundToBF16(dy.data<double>()[i]);
  });
  return y;
}

Var RoundedAttention(Context& ctx, const Var& q, const Var& k, const Var& v, const Tensor& q_pos,
                     const Tensor& documents, AttentionSpec spec) {
  const Attended attended{q.value, k.value, v.value, q_pos, documents, spec};
  const Var out = NewVar(ctx, DType::kF64, {q.value.dim(0), attended.H, attended.D});
  const Tensor lse = ctx.arena->New(DType::kF64, {q.value.dim(0), attended.H});
  attended.Forward(out.value, lse);
  RecordBackward(ctx, [=](Context&) { attended.Backward(out.value, lse, out.grad, q.grad, k.grad, v.grad); });
  return out;
}

LogprobResult RoundedTokenLogprob(Context& ctx, const Var& x, const Var& w, const Tensor& targets) {
  const LogprobResult exact = [&] {  // nothing is rounded before the backward
    const TapeScope off(ctx, nullptr);
    return TokenLogprob(ctx, x, w, targets);
  }();
  const Var logp = NewVar(ctx, DType::kF64, {x.value.dim(0)}), entropy = NewVar(ctx, DType::kF64, {x.value.dim(0)});
  if (ctx.tape) logp.SettleGrad(ctx);  // holds zeros from the beginning, as the op's own does
  Copy(logp.value, exact.logp.value);
  Copy(entropy.value, exact.entropy.value);
  if (ctx.tape) {
    ctx.tape->Record(ctx, [=](Context& recording) {
      const double *dlogp = logp.SettleGrad(recording).data<double>(),
                   *dentropy = entropy.SettleGrad(recording).data<double>();
      const std::int64_t C = w.value.dim(1);
      for (std::int64_t n = 0; n < x.value.dim(0); ++n) {
        const std::vector<double> z = LogitsOf(x.value, w.value, n);
        const std::int32_t target = targets.data<std::int32_t>()[n];
        const double lse = z[static_cast<std::size_t>(target)] - logp.value.data<double>()[n];
        for (std::int64_t v = 0; v < w.value.dim(0); ++v) {
          const double log_p = z[static_cast<std::size_t>(v)] - lse, p = std::exp(log_p);
          const double dz = RoundToBF16(dlogp[n] * ((v == target ? 1 : 0) - p) -
                                        dentropy[n] * p * (log_p + entropy.value.data<double>()[n]));
          for (std::int64_t c = 0; c < C; ++c) {
            x.grad.data<double>()[n * C + c] += dz * w.value.data<double>()[v * C + c];
            w.grad.data<double>()[v * C + c] += dz * x.value.data<double>()[n * C + c];
          }
        }
      }
    });
  }
  return {logp, entropy};
}

}  // namespace swarr
