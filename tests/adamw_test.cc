// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "autograd/gradient_check.h"
#include "tensor/ops.h"
#include "tensors.h"

using namespace swarr;

namespace {

struct State {
  Tensor w, m, v;
};
State MakeState(Arena& arena, DType dtype, std::int64_t n) {
  return {Random(arena, dtype, {n}, 1), arena.NewZero(dtype, {n}), arena.NewZero(dtype, {n})};
}
Tensor GradientOfStep(Arena& arena, DType dtype, std::int64_t n, int t) {
  return Random(arena, dtype, {n}, static_cast<std::uint32_t>(10 + t));
}

}  // namespace

TEST_CASE("the first step of AdamW moves by the learning rate against the gradient's sign, and decays the weight") {
  TestContext t;
  const Tensor w = t.arena.New(DType::kF64, {2}), g = t.arena.New(DType::kF64, {2});
  const Tensor m = t.arena.NewZero(DType::kF64, {2}), v = t.arena.NewZero(DType::kF64, {2});
  w.data<double>()[0] = 2, w.data<double>()[1] = -3;
  g.data<double>()[0] = 5, g.data<double>()[1] = -0.01;
  AdamWStep(t.ctx, w, m, v, g, {0.1, 1, 1.0, {0.9, 0.95, 0.0, 0.5}});
  // m / (1 - b1) = g and v / (1 - b2) = g^2, so the step is lr sign(g). Each number takes at most eight roundings of
  // numbers below 4: 8 * 2^-51.
  CHECK(std::fabs(ValueAt(w, 0) - (2 - 0.1 - 0.1 * 0.5 * 2)) <= 0x1p-48);
  CHECK(std::fabs(ValueAt(w, 1) - (-3 + 0.1 + 0.1 * 0.5 * 3)) <= 0x1p-48);
  CHECK(std::fabs(ValueAt(m, 0) - 0.5) <= 0x1p-48);
  CHECK(std::fabs(ValueAt(v, 0) - 1.25) <= 0x1p-48);
}

TEST_CASE("three steps of AdamW follow its formula, each element taking each step once") {
  constexpr std::int64_t kSize = 2 * 4096 + 37;  // two chunks of a thread's work, and a part of one
  const AdamWOptions options{0.8, 0.9, 1e-3, 0.2};
  const double lr = 0.05, scale = 0.25;
  for (DType dtype : {DType::kF64, DType::kF32}) {
    TestContext t;
    const State s = MakeState(t.arena, dtype, kSize);
    const Tensor expected = t.arena.New(DType::kF64, {kSize});
    std::vector<double> m(kSize), v(kSize);
    for (std::int64_t i = 0; i < kSize; ++i) expected.data<double>()[i] = ValueAt(s.w, i);
    for (int step = 1; step <= 3; ++step) {
      const Tensor g = GradientOfStep(t.arena, dtype, kSize, step);
      AdamWStep(t.ctx, s.w, s.m, s.v, g, {lr, step, scale, options});
      for (std::size_t i = 0; i < kSize; ++i) {
        double& w = expected.data<double>()[i];
        const double grad = scale * ValueAt(g, static_cast<std::int64_t>(i));
        m[i] = 0.8 * m[i] + 0.2 * grad;
        v[i] = 0.9 * v[i] + 0.1 * grad * grad;
        const double m_hat = m[i] / (1 - std::pow(0.8, step)), v_hat = v[i] / (1 - std::pow(0.9, step));
        w -= lr * (m_hat / (std::sqrt(v_hat) + 1e-3) + 0.2 * w);
      }
    }
    // Some ten roundings per step in each of the two computations, of numbers no larger than the weights.
    CHECK(RelativeError(s.w, expected) <= 60 * (dtype == DType::kF64 ? 0x1p-53 : 0x1p-24));
  }
}

TEST_CASE("AdamW leaves a weight without gradient and decay where it is, and refuses other shapes") {
  TestContext t;
  const State s = MakeState(t.arena, DType::kF32, 5);
  const Tensor before = CopyOf(t.arena, s.w), zero = t.arena.NewZero(DType::kF32, {5});
  AdamWStep(t.ctx, s.w, s.m, s.v, zero, {0.1, 1, 1.0, {0.9, 0.95, 1e-8, 0.0}});
  CHECK(SameBits(s.w, before));
  CHECK_THROWS_AS(AdamWStep(t.ctx, s.w, s.m, s.v, Random(t.arena, DType::kF32, {6}, 1), {0.1, 1}), Error);
}

TEST_CASE("GlobalNorm adds up the squares of each 4096 elements, and then these sums") {
  // The last place of 2^54 = (2^27)^2 is 4. A square of 1.96 alone is lost beside it, but not one of 1.96 + 5.2.
  TestContext t;
  const auto norm = [&](std::int64_t small, std::int64_t larger) {
    const Tensor g = t.arena.NewZero(DType::kF64, {2 * 4096});
    g.data<double>()[0] = 0x1p27;
    g.data<double>()[small] = 1.4;  // 1.96
    g.data<double>()[larger] = std::sqrt(5.2);
    return GlobalNorm(t.ctx, g);
  };
  CHECK(norm(4095, 4096) == 0x1p27);            // (2^54 + 1.96) + 5.2: 2^54 + 4, whose root rounds to 2^27
  CHECK(norm(4097, 4096) == 0x1p27 + 0x1p-25);  // 2^54 + (1.96 + 5.2): 2^54 + 8
}

TEST_CASE("GlobalNorm is the root of the sum of squares, in f64, whatever the number of threads") {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    TestContext t;
    CHECK(GlobalNorm(t.ctx, t.arena.New(dtype, {0})) == 0);
    for (std::int64_t n : {1, 4095, 4096, 4097, 50'001}) {
      const Tensor g = Random(t.arena, dtype, {n}, 7);
      long double sum = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += static_cast<long double>(ValueAt(g, i)) * ValueAt(g, i);
      t.ctx.threads = 1;
      const double one = GlobalNorm(t.ctx, g);
      // Each chunk of 4096 adds positive terms: at most 4096 roundings of 2^-53, half of it after the root.
      CHECK(std::fabs(one - static_cast<double>(std::sqrt(sum))) <= 4096 * 0x1p-53 * one);
      for (int threads : {2, 3}) {
        t.ctx.threads = threads;
        CHECK(GlobalNorm(t.ctx, g) == one);
      }
    }
  }
}
