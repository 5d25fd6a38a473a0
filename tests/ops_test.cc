// SPDX-License-Identifier: Apache-2.0
// What holds for every op, tested by walking the table of op_cases.h.
#include "autograd/ops.h"

#include <doctest/doctest.h>

#include <limits>
#include <utility>
#include <vector>

#include "autograd/gradient_check.h"
#include "op_runs.h"

using namespace swarr;

TEST_CASE("every backward is the derivative of its forward, in every awkward shape (P4, P5)") {
  // 1e-7 is the promise. The differences themselves are good to 4e-11 or better here (gradient_check.cc), and a wrong
  // formula is off by far more than 1e-7: what is required is in between.
  constexpr double kTolerance = 1e-9;
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable || c.large) continue;
    ArenaScope scope(t.arena);
    const std::vector<Var> inputs = MakeInputs(t.arena, c, DType::kF64, true);
    const auto run = [&](Context& ctx) { return c.run(ctx, inputs).out; };
    const std::vector<double> errors = GradientErrors(t.ctx, inputs, run);
    for (std::size_t i = 0; i < errors.size(); ++i) {
      INFO(Describe(c, i));
      CHECK(errors[i] <= kTolerance);
    }
  }
}

TEST_CASE("the gradient check tells a wrong backward from a right one") {
  TestContext t;
  for (double factor : {1.0, 1 + 1e-6, 0.0, std::numeric_limits<double>::quiet_NaN()}) {
    const Var x{Random(t.arena, DType::kF64, {3, 5}, 1), t.arena.New(DType::kF64, {3, 5})};
    const double error = GradientErrors(t.ctx, std::vector{x}, [&](Context& ctx) {
      const Var y = NewVar(ctx, DType::kF64, {3, 5});
      for (std::int64_t i = 0; i < 15; ++i) y.value.data<double>()[i] = x.value.data<double>()[i] * ValueAt(x.value, i);
      if (ctx.tape) {
        ctx.tape->Record(ctx, [=](Context&) {
          for (std::int64_t i = 0; i < 15; ++i) {
            const double derivative = 2 * ValueAt(x.value, i) * (i == 7 ? factor : 1);
            x.grad.data<double>()[i] += ValueAt(y.grad, i) * derivative;
          }
        });
      }
      return y;
    })[0];
    CHECK((error <= 1e-9) == (factor == 1));
  }
}

TEST_CASE("a backward adds to the gradients that are there") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable || c.large) continue;
    ArenaScope scope(t.arena);
    const Run fresh = RunOn(t.ctx, c, DType::kF64);
    std::vector<Var> inputs = MakeInputs(t.arena, c, DType::kF64, true);
    std::vector<Tensor> expected(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Tensor grad = inputs[i].grad;
      if (grad.empty()) continue;
      Copy(grad.Reshape({grad.size()}), Random(t.arena, DType::kF64, {grad.size()}, 5));
      expected[i] = CopyOf(t.arena, grad);
      for (std::int64_t e = 0; e < grad.size(); ++e) expected[i].data<double>()[e] += ValueAt(fresh.inputs[i].grad, e);
    }
    const Run run = RunOn(t.ctx, c, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (expected[i].empty()) continue;
      INFO(Describe(c, i));
      // The same terms in another order: each of at most longest_sum additions rounds by 2^-53 of a partial sum.
      CHECK(RelativeError(run.inputs[i].grad, expected[i]) <= 0x1p-53 * (8 + 4 * c.longest_sum));
    }
  }
}

TEST_CASE("an input without a gradient is frozen, and the other gradients do not notice") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable || c.large) continue;
    ArenaScope scope(t.arena);
    const Run all = RunOn(t.ctx, c, DType::kF64);
    for (std::size_t frozen = 0; frozen < c.inputs.size(); ++frozen) {
      INFO(Describe(c, frozen));
      std::vector<Var> inputs = MakeInputs(t.arena, c, DType::kF64, true);
      inputs[frozen].grad = {};
      const Run run = RunOn(t.ctx, c, inputs);
      RequireSameBits(run, all);
    }
  }
}

TEST_CASE("recording changes no bit of a forward (P2)") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable) continue;
    INFO(c.name);
    ArenaScope scope(t.arena);
    const Run recorded = RunOn(t.ctx, c, DType::kF32);
    const Var inference = c.run(t.ctx, recorded.inputs).out;
    CHECK(inference.grad.empty());
    CHECK(SameBits(inference.value, recorded.result.out.value));
  }
}

TEST_CASE("f64 and f32 agree on every processor with portable f64 within the rounding of their sums (P4)") {
  for (const OpCase& c : OpCases()) {
    TestContext t(1, Cpu::kPortable);
    const Run exact = RunOn(t.ctx, c, DType::kF64);
    for (DType dtype : {DType::kF64, DType::kF32}) {
      const double unit = dtype == DType::kF64 ? 0x1p-53 : 0x1p-24;
      // All start from the same numbers. A sum of n terms rounds by at most a unit of a partial sum n times; roundings
      // cancel like sqrt(n) and so do the terms, which leaves about n units of the result. Two for the worst element of
      // a tensor; 16 for the few products, exponentials and logarithms around a sum. Of two sums in f64, each has it.
      const double bound = unit * (16 + 2 * c.longest_sum) * (dtype == DType::kF64 ? 2 : 1);
      for (Cpu cpu : SupportedCpus()) {
        INFO(c.name << " " << Name(cpu) << " " << Name(dtype));
        TestContext u(1, cpu);
        const Run run = RunOn(u.ctx, c, dtype);
        CHECK(RelativeError(run.result.out.value, exact.result.out.value) <= bound);
        for (std::size_t i = 0; i < exact.result.also.size(); ++i) {
          const Tensor &a = run.result.also[i], &b = exact.result.also[i];
          CHECK((a.dtype() == DType::kI32 ? SameBits(a, b) : RelativeError(a, b) <= bound));
        }
        for (std::size_t i = 0; i < exact.inputs.size(); ++i) {
          if (exact.inputs[i].grad.empty()) continue;
          INFO(Describe(c, i));
          CHECK(ErrorOfGradient(run, exact, i) <= bound);
        }
      }
    }
  }
}

TEST_CASE("1, 2 and 3 threads and a second run give the same bits, forward and backward (P8)") {
  for (const OpCase& c : OpCases()) {
    if (!c.large) continue;
    for (Cpu cpu : SupportedCpus()) {
      for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
        if (dtype == DType::kBF16 && !c.bf16) continue;
        INFO(c.name << " " << Name(cpu) << " " << Name(dtype));
        TestContext one(1, cpu);
        const Run reference = RunOn(one.ctx, c, dtype);
        for (int threads : {1, 2, 3}) {
          TestContext several(threads, cpu);
          RequireSameBits(RunOn(several.ctx, c, dtype), reference);
        }
      }
    }
  }
}

TEST_CASE("mismatched shapes, dtypes and ids are refused in a sentence") {
  TestContext t;
  Context& ctx = t.ctx;
  const auto real = [&](std::initializer_list<std::int64_t> shape) { return Random(t.arena, DType::kF32, shape, 1); };
  const Tensor wide = Random(t.arena, DType::kF64, {5}, 1);
  CHECK_THROWS_WITH_AS(Embedding(ctx, {real({4, 3}), {}}, Ints(t.arena, {0, 4})),
                       "token id 4 is outside the vocabulary of 4", Error);
  CHECK_THROWS_AS(Embedding(ctx, {real({4, 3}), {}}, Ints(t.arena, {-1})), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3}), {}}, {real({4, 5}), {}}), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3, 5}), {}}, {real({4, 3}), {}}), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, {real({3}), {}}), Error);
  CHECK_THROWS_AS(RmsNorm(ctx, {real({2, 5}), {}}, {real({4}), {}}, 1e-6), Error);
  CHECK_THROWS_AS(RmsNorm(ctx, {real({2, 5}), {}}, {wide, {}}, 1e-6), Error);
  const Tensor table = real({8, 4});
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 4}), {}}, Ints(t.arena, {0, 8}), table), Error);
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 4}), {}}, Ints(t.arena, {0, -1}), table), Error);
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 6}), {}}, Ints(t.arena, {0, 1}), table), Error);
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 5}), {}}, Ints(t.arena, {0, 1}), real({8, 5})), Error);
  CHECK_THROWS_AS(SwiGlu(ctx, {real({2, 3}), {}}, {real({2, 4}), {}}), Error);
  CHECK_THROWS_AS(Add(ctx, {real({2, 3}), {}}, {real({3, 2}), {}}), Error);
  CHECK_THROWS_AS(TokenLogprob(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, Ints(t.arena, {0, 4})), Error);
  CHECK_THROWS_AS(TokenLogprob(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, Ints(t.arena, {0})), Error);
}
