// SPDX-License-Identifier: Apache-2.0
// What holds for every op, tested by walking the table of op_cases.h.
#include "autograd/ops.h"

#include <doctest/doctest.h>

#include <limits>
#include <utility>
#include <vector>

#include "autograd/gradient_check.h"
#include "op_checks.h"

using namespace swarr;

TEST_CASE("every backward is the derivative of its forward, in every awkward shape (P4, P5)") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable || c.large) continue;
    ArenaScope scope(t.arena);
    LargestGradientError(t.ctx, c);
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

TEST_CASE("a run of the table reaches every gradient") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (!c.differentiable || !c.large) continue;
    const Run run = RunOn(t.ctx, c, DType::kF64);
    for (std::size_t i = 0; i < run.inputs.size(); ++i) {
      INFO(Describe(c, i));
      if (!run.inputs[i].grad.empty()) CHECK(LargestOf(run.inputs[i].grad) > 0);
    }
  }
}

TEST_CASE("a backward adds to the gradients that are there, and writes a fresh one beside them") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (c.differentiable && !c.large) CheckAddsToGradients(t.ctx, c);
  }
}

TEST_CASE("an input without a gradient is frozen, and the other gradients do not notice") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    if (c.differentiable && !c.large) CheckFrozenInputs(t.ctx, c);
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
        const RunErrors errors = ErrorsOf(run, exact);
        CHECK(errors.forward <= bound);
        CHECK(errors.gradients <= bound);
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
          CheckSameBits(RunOn(several.ctx, c, dtype), reference);
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
  CHECK_NOTHROW(CheckIds(Ints(t.arena, {0, 3}), 4, "token id"));
  CHECK_THROWS_WITH_AS(CheckIds(Ints(t.arena, {0, 4}), 4, "token id"), "token id 4 is outside the vocabulary of 4",
                       Error);
  CHECK_THROWS_AS(CheckIds(Ints(t.arena, {-1}), 4, "token id"), Error);
  CHECK_THROWS_AS(Embedding(ctx, {real({4, 3}), {}}, real({2})), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3}), {}}, {real({4, 5}), {}}), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3, 5}), {}}, {real({4, 3}), {}}), Error);
  CHECK_THROWS_AS(Linear(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, {real({3}), {}}), Error);
  CHECK_THROWS_AS(RmsNorm(ctx, {real({2, 5}), {}}, {real({4}), {}}, 1e-6), Error);
  CHECK_THROWS_AS(RmsNorm(ctx, {real({2, 5}), {}}, {wide, {}}, 1e-6), Error);
  const Tensor table = real({8, 4});
  CHECK_NOTHROW(CheckPositions(Ints(t.arena, {0, 7}), 8));
  CHECK_THROWS_AS(CheckPositions(Ints(t.arena, {0, 8}), 8), Error);
  CHECK_THROWS_AS(CheckPositions(Ints(t.arena, {0, -1}), 8), Error);
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 6}), {}}, Ints(t.arena, {0, 1}), table), Error);
  CHECK_THROWS_AS(Rope(ctx, {real({2, 1, 5}), {}}, Ints(t.arena, {0, 1}), real({8, 5})), Error);
  CHECK_THROWS_AS(SwiGlu(ctx, {real({2, 3}), {}}, {real({2, 4}), {}}), Error);
  CHECK_THROWS_AS(Add(ctx, {real({2, 3}), {}}, {real({3, 2}), {}}), Error);
  CHECK_THROWS_AS(TokenLogprob(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, Ints(t.arena, {0})), Error);
  const auto distill = [&](const Tensor& teacher_x, const Tensor& teacher_w, double temperature) {
    DistillKl(ctx, {real({2, 3}), {}}, {real({4, 3}), {}}, teacher_x, teacher_w, {KlDirection::kForward, temperature});
  };
  CHECK_NOTHROW(distill(real({2, 5}), real({4, 5}), 1));
  CHECK_THROWS_AS(distill(real({3, 5}), real({4, 5}), 1), Error);  // other rows
  CHECK_THROWS_AS(distill(real({2, 5}), real({7, 5}), 1), Error);  // another vocabulary
  CHECK_THROWS_AS(distill(real({2, 5}), real({4, 6}), 1), Error);
  CHECK_THROWS_WITH_AS(distill(real({2, 5}), real({4, 5}), 0),
                       "distillation at a temperature of 0, which must be above 0", Error);
}
