// SPDX-License-Identifier: Apache-2.0
// What holds for every op, tested by walking the table of op_cases.h.
#include "autograd/ops.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "autograd/gradient_check.h"
#include "op_cases.h"
#include "tensors.h"

using namespace swarr;

namespace {

// A forward, and the backward of a gradient that is the same in every run of the case.
struct Run {
  OpResult result;
  std::vector<Var> inputs;
};

// `inputs`: with the gradients that the backward shall add to.
Run RunOn(Context ctx, const OpCase& c, std::vector<Var> inputs) {
  Tape tape;
  if (c.differentiable) ctx.tape = &tape;
  Run run{c.run(ctx, inputs), inputs};
  const Tensor dout = run.result.out.grad;
  if (!dout.empty()) {
    Copy(dout.Reshape({dout.size()}), Random(*ctx.arena, dout.dtype(), {dout.size()}, 99));
    tape.Backward(ctx);
  }
  return run;
}

Run RunOn(const Context& ctx, const OpCase& c, DType dtype) {
  return RunOn(ctx, c, MakeInputs(*ctx.arena, c, dtype, /*gradients=*/true));
}

void RequireSameBits(const Run& a, const Run& b) {
  CHECK(SameBits(a.result.out.value, b.result.out.value));
  for (std::size_t i = 0; i < a.result.also.size(); ++i) CHECK(SameBits(a.result.also[i], b.result.also[i]));
  for (std::size_t i = 0; i < a.inputs.size(); ++i) {
    if (a.inputs[i].grad.empty()) continue;
    INFO("gradient of " << i);
    CHECK(SameBits(a.inputs[i].grad, b.inputs[i].grad));
  }
}

std::string Describe(const OpCase& c, std::size_t input) { return c.name + ", gradient of " + c.inputs[input].name; }

Tensor RowsOf(const Tensor& t, std::int64_t begin, std::int64_t end) { return t.empty() ? t : t.Rows(begin, end); }

}  // namespace

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

TEST_CASE("f32 agrees with f64 within the rounding of its sums (P4)") {
  TestContext t;
  for (const OpCase& c : OpCases()) {
    INFO(c.name);
    ArenaScope scope(t.arena);
    // Both start from the same numbers. A sum of n terms rounds by at most 2^-24 of a partial sum n times; roundings
    // cancel like sqrt(n) and so do the terms, which leaves about n units of the result. Two for the worst element of a
    // tensor; 16 for the few products, exponentials and logarithms around a sum.
    const double bound = 0x1p-24 * (16 + 2 * c.longest_sum);
    const Run exact = RunOn(t.ctx, c, DType::kF64);
    const Run single = RunOn(t.ctx, c, DType::kF32);
    CHECK(RelativeError(single.result.out.value, exact.result.out.value) <= bound);
    for (std::size_t i = 0; i < exact.result.also.size(); ++i) {
      const Tensor &a = single.result.also[i], &b = exact.result.also[i];
      CHECK((a.dtype() == DType::kI32 ? SameBits(a, b) : RelativeError(a, b) <= bound));
    }
    for (std::size_t i = 0; i < exact.inputs.size(); ++i) {
      if (exact.inputs[i].grad.empty()) continue;
      INFO(Describe(c, i));
      CHECK(RelativeError(single.inputs[i].grad, exact.inputs[i].grad) <= bound);
    }
  }
}

TEST_CASE("1, 2 and 3 threads and a second run give the same bits, forward and backward (P8)") {
  for (const OpCase& c : OpCases()) {
    if (!c.large) continue;
    INFO(c.name);
    for (DType dtype : {DType::kF32, DType::kF64}) {
      TestContext one(1);
      const Run reference = RunOn(one.ctx, c, dtype);
      for (int threads : {1, 2, 3, 3}) {
        TestContext several(threads);
        RequireSameBits(RunOn(several.ctx, c, dtype), reference);
      }
    }
  }
}

TEST_CASE("a row of a forward has the same bits whatever rows are in the batch (P8)") {
  for (const OpCase& c : OpCases()) {
    if (!c.large || !c.inputs[0].per_row) continue;
    for (DType dtype : {DType::kF32, DType::kF64}) {
      TestContext t(2);
      const std::vector<Var> all = MakeInputs(t.arena, c, dtype, false);
      const OpResult batch = c.run(t.ctx, all);
      const std::int64_t N = all[0].value.dim(0);
      const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 1}, {N - 1, N}, {N / 3, N / 2 + 1}};
      for (const auto& range : ranges) {
        const std::int64_t begin = range.first, end = range.second;
        INFO(c.name << ", rows " << begin << " to " << end);
        std::vector<Var> some = all;
        for (std::size_t i = 0; i < some.size(); ++i) {
          if (c.inputs[i].per_row) some[i].value = some[i].value.Rows(begin, end);
        }
        const OpResult part = c.run(t.ctx, some);
        CHECK(SameBits(part.out.value, RowsOf(batch.out.value, begin, end)));
        for (std::size_t i = 0; i < part.also.size(); ++i) {
          CHECK(SameBits(part.also[i], RowsOf(batch.also[i], begin, end)));
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
