// SPDX-License-Identifier: Apache-2.0
// The definition of every op but attention (plain/attention.h), in plain loops over f64, for those who want to see what
// an op is. Each backward stands below its forward, the formula above both, in the glossary's letters
// (tensor/tensor.h). The kernels (tensor/ops.h) compute the same numbers fast; tests hold them to these definitions.
//
// A backward adds to the gradients that it is given: dx += dL/dx. docs/derivations.md derives the formulas.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "plain/array.h"
#include "tensor/ops.h"
#include "tensor/philox.h"

namespace swarr::plain {

// Embedding: y[n] = w[ids[n]];  dw[v] = sum of dy[n] over all n with ids[n] = v.   y[N, C]  w[V, C]  ids[N]
inline void EmbeddingForward(Array y, Array w, Indices ids) {
  for (int n = 0; n < y.dim(0); ++n) {
    for (int c = 0; c < y.dim(1); ++c) y(n, c) = w(ids(n), c);
  }
}
inline void EmbeddingBackward(Array dw, Array dy, Indices ids) {
  for (int n = 0; n < dy.dim(0); ++n) {
    for (int c = 0; c < dy.dim(1); ++c) dw(ids(n), c) += dy(n, c);
  }
}

// Linear: y = x w^T + b + residual;  dx = dy w,  dw = dy^T x,  db = sum_n dy[n];  the residual's gradient is dy.
//   y, residual[N, O]  x[N, I]  w[O, I]  b[O]; b and residual may be empty
inline void LinearForward(Array y, Array x, Array w, Array b, Array residual) {
  for (int n = 0; n < y.dim(0); ++n) {
    for (int o = 0; o < y.dim(1); ++o) {
      y(n, o) = (b.empty() ? 0 : b(o)) + (residual.empty() ? 0 : residual(n, o));
      for (int i = 0; i < x.dim(1); ++i) y(n, o) += x(n, i) * w(o, i);
    }
  }
}
inline void LinearBackward(Array dx, Array dw, Array db, Array dy, Array x, Array w) {
  for (int n = 0; n < dy.dim(0); ++n) {
    for (int o = 0; o < dy.dim(1); ++o) {
      for (int i = 0; i < x.dim(1); ++i) {
        dx(n, i) += dy(n, o) * w(o, i);
        dw(o, i) += dy(n, o) * x(n, i);
      }
      if (!db.empty()) db(o) += dy(n, o);
    }
  }
}

// RMSNorm: y = x r w,  r = 1 / sqrt(mean(x^2) + eps) of each row;
//   dx = r w dy - r^3 x mean(x w dy),  dw = sum_n r x dy.   x, y[N, C]  w[C]
inline double RmsNormR(Array x, int n, double eps) {
  double squares = 0;
  for (int c = 0; c < x.dim(1); ++c) squares += x(n, c) * x(n, c);
  return 1 / std::sqrt(squares / x.dim(1) + eps);
}
inline void RmsNormForward(Array y, Array x, Array w, double eps) {
  for (int n = 0; n < x.dim(0); ++n) {
    for (int c = 0; c < x.dim(1); ++c) y(n, c) = x(n, c) * RmsNormR(x, n, eps) * w(c);
  }
}
inline void RmsNormBackward(Array dx, Array dw, Array dy, Array x, Array w, double eps) {
  for (int n = 0; n < x.dim(0); ++n) {
    const double r = RmsNormR(x, n, eps);
    double mean = 0;
    for (int c = 0; c < x.dim(1); ++c) mean += x(n, c) * w(c) * dy(n, c) / x.dim(1);
    for (int c = 0; c < x.dim(1); ++c) {
      dx(n, c) += r * w(c) * dy(n, c) - r * r * r * x(n, c) * mean;
      dw(c) += r * x(n, c) * dy(n, c);
    }
  }
}

// RoPE: the pair (x[n, h, i], x[n, h, i + D/2]) is turned by the angle a = positions[n] theta^(-2i/D); its gradient is
// dy turned back, by -a.   x, y[N, H, D]  positions[N]
inline void AddTurned(Array y, Array x, Indices positions, double theta, int sign) {
  const int D = x.dim(2), half = D / 2;
  for (int n = 0; n < x.dim(0); ++n) {
    for (int h = 0; h < x.dim(1); ++h) {
      for (int i = 0; i < half; ++i) {
        const double a = sign * positions(n) * std::pow(theta, -2.0 * i / D);
        y(n, h, i) += x(n, h, i) * std::cos(a) - x(n, h, i + half) * std::sin(a);
        y(n, h, i + half) += x(n, h, i + half) * std::cos(a) + x(n, h, i) * std::sin(a);
      }
    }
  }
}
inline void RopeForward(Array y, Array x, Indices positions, double theta) {
  for (int i = 0; i < y.size(); ++i) y(i) = 0;
  AddTurned(y, x, positions, theta, 1);
}
inline void RopeBackward(Array dx, Array dy, Indices positions, double theta) {
  AddTurned(dx, dy, positions, theta, -1);
}

// SwiGLU: y = silu(gate) up,  silu(z) = z s(z),  s(z) = 1 / (1 + exp(-z));
//   silu'(z) = s(z) (1 + z (1 - s(z))),  dgate = dy up silu'(gate),  dup = dy silu(gate)
inline double Sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
inline void SwiGluForward(Array y, Array gate, Array up) {
  for (int i = 0; i < y.size(); ++i) y(i) = gate(i) * Sigmoid(gate(i)) * up(i);
}
inline void SwiGluBackward(Array dgate, Array dup, Array dy, Array gate, Array up) {
  for (int i = 0; i < dy.size(); ++i) {
    const double s = Sigmoid(gate(i));
    dgate(i) += dy(i) * up(i) * s * (1 + gate(i) * (1 - s));
    dup(i) += dy(i) * gate(i) * s;
  }
}

// Add: y = a + b;  da = db = dy
inline void AddForward(Array y, Array a, Array b) {
  for (int i = 0; i < y.size(); ++i) y(i) = a(i) + b(i);
}
inline void AddBackward(Array da, Array db, Array dy) {
  for (int i = 0; i < dy.size(); ++i) {
    da(i) += dy(i);
    db(i) += dy(i);
  }
}

// Softmax over a vocabulary: p[v] = exp(z[v] - lse),  lse = log sum_v exp z[v],  entropy = -sum_v p[v] log p[v]
struct Softmax {
  explicit Softmax(std::vector<double> logits) : z(std::move(logits)) {
    const double largest = *std::max_element(z.begin(), z.end());
    double sum = 0;
    for (const double x : z) sum += std::exp(x - largest);
    lse = largest + std::log(sum);
    for (int v = 0; v < V(); ++v) entropy -= P(v) * LogP(v);
  }
  int V() const { return static_cast<int>(z.size()); }
  double LogP(int v) const { return z[static_cast<std::size_t>(v)] - lse; }
  double P(int v) const { return std::exp(LogP(v)); }

  std::vector<double> z;
  double lse = 0, entropy = 0;
};

// z[v] = w[v] . x[n]
inline std::vector<double> Logits(Array x, Array w, int n) {
  std::vector<double> z;
  for (int v = 0; v < w.dim(0); ++v) {
    double& sum = z.emplace_back(0);
    for (int c = 0; c < x.dim(1); ++c) sum += x(n, c) * w(v, c);
  }
  return z;
}

// Log-probabilities of tokens: logp[n] = log p[targets[n]], and lse and entropy of row n, by the softmax of its logits;
//   dz[v] = dlogp ([v = target] - p[v]) - dentropy p[v] (log p[v] + entropy),  dx = dz w,  dw = dz^T x
//   logp, lse, entropy[N]  x[N, C]  w[V, C]  targets[N]
inline void TokenLogprobForward(Array logp, Array lse, Array entropy, Array x, Array w, Indices targets) {
  for (int n = 0; n < x.dim(0); ++n) {
    const Softmax s(Logits(x, w, n));
    logp(n) = s.LogP(targets(n));
    lse(n) = s.lse;
    entropy(n) = s.entropy;
  }
}
inline void TokenLogprobBackward(Array dx, Array dw, Array dlogp, Array dentropy, Array x, Array w, Indices targets,
                                 Rounding stored = Exact) {
  for (int n = 0; n < x.dim(0); ++n) {
    const Softmax s(Logits(x, w, n));
    for (int v = 0; v < s.V(); ++v) {
      const double target = v == targets(n) ? 1 : 0;
      const double dz = stored(dlogp(n) * (target - s.P(v)) - dentropy(n) * s.P(v) * (s.LogP(v) + s.entropy));
      for (int c = 0; c < x.dim(1); ++c) {
        dx(n, c) += dz * w(v, c);
        dw(v, c) += dz * x(n, c);
      }
    }
  }
}

// Distillation: kl[n] = KL(q || p) (forward) or KL(p || q) (reverse), KL(a || b) = sum_v a[v] (log a[v] - log b[v]),
// with the student's p = softmax(w x[n] / T) and the teacher's q = softmax(teacher_w teacher_x[n] / T);
//   dz[v] = dkl / T (p[v] - q[v])  (forward),  dkl / T p[v] (log p[v] - log q[v] - kl)  (reverse),
//   dx = dz w,  dw = dz^T x;  the teacher is a constant
//   kl[N]  x[N, C]  w[V, C]  teacher_x[N, E]  teacher_w[V, E]
struct StudentAndTeacher {
  StudentAndTeacher(Array x, Array w, Array teacher_x, Array teacher_w, int n, double temperature)
      : p(Divided(Logits(x, w, n), temperature)), q(Divided(Logits(teacher_x, teacher_w, n), temperature)) {}
  static std::vector<double> Divided(std::vector<double> z, double temperature) {
    for (double& l : z) l /= temperature;
    return z;
  }
  double Kl(KlDirection direction) const {
    const bool forward = direction == KlDirection::kForward;
    const Softmax &a = forward ? q : p, &b = forward ? p : q;
    double sum = 0;
    for (int v = 0; v < a.V(); ++v) sum += a.P(v) * (a.LogP(v) - b.LogP(v));
    return sum;
  }
  Softmax p, q;
};
inline void DistillForward(Array kl, Array x, Array w, Array teacher_x, Array teacher_w, const DistillOptions& o) {
  for (int n = 0; n < x.dim(0); ++n) {
    kl(n) = StudentAndTeacher(x, w, teacher_x, teacher_w, n, o.temperature).Kl(o.direction);
  }
}
struct DistillGradients {
  Array dx, dw;
};
inline void DistillBackward(DistillGradients to, Array dkl, Array x, Array w, Array teacher_x, Array teacher_w,
                            const DistillOptions& o, Rounding stored = Exact) {
  for (int n = 0; n < x.dim(0); ++n) {
    const StudentAndTeacher s(x, w, teacher_x, teacher_w, n, o.temperature);
    const double kl = s.Kl(o.direction);
    for (int v = 0; v < s.p.V(); ++v) {
      const double by_logit =
          o.direction == KlDirection::kForward ? s.p.P(v) - s.q.P(v) : s.p.P(v) * (s.p.LogP(v) - s.q.LogP(v) - kl);
      const double dz = stored(dkl(n) / o.temperature * by_logit);
      for (int c = 0; c < x.dim(1); ++c) {
        to.dx(n, c) += dz * w(v, c);
        to.dw(v, c) += dz * x(n, c);
      }
    }
  }
}

// Sampling: tokens[n] = argmax_v z[v] / temperature + g[v] with Gumbel noise g[v] = -log(-log u[v]), u uniform, drawn
// by the row's key and the position of the drawn token; at temperature 0 argmax_v z[v]. logp[n] is that of the token at
// temperature 1.   tokens, logp[N]  x[N, C]  w[V, C]  positions[N]  rows[N]
inline void Sample(View<std::int32_t> tokens, Array logp, Array x, Array w, Indices positions, const SampleRow* rows) {
  for (int n = 0; n < x.dim(0); ++n) {
    const Softmax s(Logits(x, w, n));
    std::vector<double> score = s.z;
    for (std::uint32_t v = 0; v < score.size() && rows[n].temperature > 0; ++v) {
      const double u = UniformFrom(Philox(rows[n].key, {v / 4, static_cast<std::uint32_t>(positions(n)), 0, 0})[v % 4]);
      score[v] = score[v] / rows[n].temperature - std::log(-std::log(u));
    }
    tokens(n) = static_cast<std::int32_t>(std::max_element(score.begin(), score.end()) - score.begin());
    logp(n) = s.LogP(tokens(n));
  }
}

// AdamW: the formulas stand beside AdamWStep in tensor/ops.h; t = 1 at the first step.   w, m, v, g: any equal shapes
inline void AdamWStep(Array w, Array m, Array v, Array g, const AdamWUpdate& u) {
  const AdamWOptions& o = u.options;
  const double t = static_cast<double>(u.t);
  for (int i = 0; i < w.size(); ++i) {
    const double gradient = u.grad_scale * g(i);
    m(i) = o.beta1 * m(i) + (1 - o.beta1) * gradient;
    v(i) = o.beta2 * v(i) + (1 - o.beta2) * gradient * gradient;
    const double first = m(i) / (1 - std::pow(o.beta1, t)), second = v(i) / (1 - std::pow(o.beta2, t));
    w(i) -= u.lr * (first / (std::sqrt(second) + o.eps) + o.weight_decay * w(i));
  }
}
inline double GlobalNorm(Array g) {
  double squares = 0;
  for (int i = 0; i < g.size(); ++i) squares += g(i) * g(i);
  return std::sqrt(squares);
}

}  // namespace swarr::plain
