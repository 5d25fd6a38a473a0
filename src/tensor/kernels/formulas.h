// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The formulas of the ops, element by element. A kernel of the processor and its twin in cuda/ have loops of their own
// around the same formula. T is the type that is computed in. docs/derivations.md has the derivations.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "tensor/kernels/math.h"
#include "tensor/ops.h"
#include "tensor/philox.h"

namespace swarr {

// RMSNorm. r of a row of C elements, given the sum of their squares; y = x r w.
template <class T>
[[gnu::always_inline]] constexpr T InverseRms(T squares, std::int64_t C, T eps) {
  return T(1) / std::sqrt(squares / static_cast<T>(C) + eps);
}
template <class T>
[[gnu::always_inline]] constexpr T Normed(T x, T r, T w) {
  return x * r * w;
}
// With x' = x r: dx = r (dy w - x' mean(dy w x')), and a row's part of dw is dy x'.
template <class T>
[[gnu::always_inline]] constexpr T NormedGradient(T dy, T w, T x, T r, T mean) {
  return r * (dy * w - x * r * mean);
}
template <class T>
[[gnu::always_inline]] constexpr T NormWeightGradient(T dy, T x, T r) {
  return dy * x * r;
}

// RoPE. The pair (a, b), turned by an angle of this cosine and sine. The inverse of a rotation is its transpose, so the
// backward turns by the negative sine.
template <class T>
struct TurnedPair {
  T first, second;
  [[gnu::always_inline]] constexpr TurnedPair(T a, T b, T cosine, T sine)
      : first(a * cosine - b * sine), second(b * cosine + a * sine) {}
};

// SwiGLU, silu(gate) up, given s = sigmoid(gate) or not.
template <class T>
[[gnu::always_inline]] constexpr T Gated(T gate, T s, T up) {
  return gate * s * up;
}
template <class T>
[[gnu::always_inline]] constexpr T Gated(T gate, T up) {
  return Gated(gate, Sigmoid(gate), up);
}
// d silu / d gate = s (1 + gate (1 - s)).
template <class T>
struct GatedGradient {
  T gate, up;
  [[gnu::always_inline]] constexpr GatedGradient(T dy, T z, T s, T u) {
    gate = dy * u * s * (T(1) + z * (T(1) - s));
    up = dy * z * s;
  }
  [[gnu::always_inline]] constexpr GatedGradient(T dy, T z, T u) : GatedGradient(dy, z, Sigmoid(z), u) {}
};

// Log-softmax. dL/dz[v] where v is not the target, given p[v] and log p[v]; at the target it is dlogp more. First for a
// loss without the entropy H, then with it: dlogp/dz[v] = [v = target] - p[v], dH/dz[v] = -p[v] (log p[v] + H).
template <class T>
[[gnu::always_inline]] constexpr T LogitGradient(T p, T dlogp) {
  return -dlogp * p;
}
template <class T>
[[gnu::always_inline]] constexpr T LogitGradient(T p, T log_p, T dlogp, T dentropy, T entropy) {
  return -p * (dlogp + dentropy * (log_p + entropy));
}

// Distillation. A token's term of KL(a || b) of two distributions, given both log-probabilities.
template <class T>
[[gnu::always_inline]] constexpr T KlTermOf(T log_a, T log_b) {
  return Exp(log_a) * (log_a - log_b);
}
// dKL/d(z[v] / temperature) of the student p beside the teacher q: first of KL(q || p), then of kl = KL(p || q).
template <class T>
[[gnu::always_inline]] constexpr T ForwardKlGradient(T log_p, T log_q) {
  return Exp(log_p) - Exp(log_q);
}
template <class T>
[[gnu::always_inline]] constexpr T ReverseKlGradient(T log_p, T log_q, T kl) {
  return Exp(log_p) * (log_p - log_q - kl);
}

// Standard Gumbel noise from a random word.
[[gnu::always_inline]] constexpr double GumbelFrom(std::uint32_t word) { return -Log(-Log(UniformFrom(word))); }

// Bounds of GumbelFrom(word) that rise with it, for a few instructions: one above, and one below where u >= 1/2. With
// v = 1 - u the noise is below -log v, since -log u > v, and it is above that by log u at least, since -log u < v / u;
// and log u >= -1.4 v there. The bits of a float, as an integer, are 2^23 times its logarithm to base 2, plus 127, less
// 0.0861 at most.
[[gnu::always_inline]] constexpr float GumbelRest(std::uint32_t word) { return static_cast<float>(~word) + 0.5f; }
constexpr float kLn2OfBit = 0.69314718f * 0x1p-23f, kGumbelRounding = 3e-5f,
                kGumbelAtZeroBits = (127 + 32) * 0.69314718f + kGumbelRounding;
[[gnu::always_inline]] constexpr float MostGumbel(std::uint32_t word) {
  return MultiplyAdd(static_cast<float>(std::bit_cast<std::int32_t>(GumbelRest(word))), -kLn2OfBit, kGumbelAtZeroBits);
}
[[gnu::always_inline]] constexpr float LeastGumbel(std::uint32_t word) {
  return MultiplyAdd(GumbelRest(word), -1.4f * 0x1p-32f, MostGumbel(word) - (0.0598f + 2 * kGumbelRounding));
}
// A word not above any whose MostGumbel is `noise` or more; 0 if that is no number.
[[gnu::always_inline]] constexpr std::uint32_t WordOfMostGumbel(float noise) {
  constexpr float kLeastBits = 0x3f000000p0f, kMostBits = 0x4f800000p0f;  // of 0.5 and 2^32
  const float bits = (kGumbelAtZeroBits - noise) * (1 / kLn2OfBit), below = bits < kMostBits ? bits : kMostBits,
              clamped = below > kLeastBits ? below : kLeastBits;
  const float rest = std::bit_cast<float>(static_cast<std::int32_t>(clamped) + 512);
  return rest < 0x1p32f ? ~static_cast<std::uint32_t>(rest) : 0;
}

// AdamW: the constants of one step (ops.h) in the dtype of the weights.
template <class T>
struct AdamWFactors {
  T beta1, beta2, correct1, correct2, scale, rate, eps, decay;

  [[gnu::always_inline]] explicit AdamWFactors(const AdamWUpdate& u)
      : beta1(static_cast<T>(u.options.beta1)),
        beta2(static_cast<T>(u.options.beta2)),
        correct1(static_cast<T>(1 / (1 - std::pow(u.options.beta1, static_cast<double>(u.t))))),
        correct2(static_cast<T>(1 / (1 - std::pow(u.options.beta2, static_cast<double>(u.t))))),
        scale(static_cast<T>(u.grad_scale)),
        rate(static_cast<T>(u.lr)),
        eps(static_cast<T>(u.options.eps)),
        decay(static_cast<T>(u.lr * u.options.weight_decay)) {}

  // Changes a weight and its two moments by its gradient.
  [[gnu::always_inline]] constexpr void Update(T gradient, T& weight, T& first, T& second) const {
    const T grad = gradient * scale;
    first = beta1 * first + (1 - beta1) * grad;
    second = beta2 * second + (1 - beta2) * grad * grad;
    weight = weight - rate * (first * correct1) / (std::sqrt(second * correct2) + eps) - decay * weight;
  }
};

}  // namespace swarr
