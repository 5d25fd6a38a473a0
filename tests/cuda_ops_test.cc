// SPDX-License-Identifier: Apache-2.0
// Every op on a CUDA device, by the table of op_cases.h: what ops_test.cc, op_rows_test.cc and op_bf16_test.cc require
// of the processor, and agreement with it. What ops do to memory is in op_memory_test.cc.
#include "cuda_report.h"
#include "op_checks.h"
#include "tensor/ops.h"

using namespace swarr;

namespace {

constexpr DType kDTypes[] = {DType::kF64, DType::kF32, DType::kBF16};

std::vector<OpCase> AllCases() {
  std::vector<OpCase> all = OpCases();
  for (OpCase& c : RowCases()) all.push_back(std::move(c));
  return all;
}

// Calls f(context on the device, case) for each case.
template <class F>
void ForCases(const std::vector<OpCase>& cases, F&& f) {
  TestContext t(Device::kCuda);
  for (const OpCase& c : cases) {
    INFO(c.name);
    ResetStep(t.ctx);
    f(t.ctx, c);
  }
}

bool SmallWithBackward(const OpCase& c) { return c.differentiable && !c.large; }

// Numbers -1, 0 and 1, the same in every dtype.
Tensor SmallIntegers(Arena& arena, DType dtype, std::initializer_list<std::int64_t> shape, std::uint32_t stream) {
  const Tensor reals = Random(arena, DType::kF64, shape, stream, 1.5), t = arena.New(dtype, shape);
  Dispatch(dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < t.size(); ++i) t.data<T>()[i] = static_cast<T>(std::round(ValueAt(reals, i)));
  });
  return t;
}

}  // namespace

TEST_CASE("CUDA: every op agrees with the processor's f64 to 1e-12 in f64 and to 1e-5 in f32, forward and backward") {
  if (SkippedWithoutCuda()) return;
  for (DType dtype : {DType::kF64, DType::kF32}) {
    const double bound = dtype == DType::kF64 ? 1e-12 : 1e-5;  // of the project's requirements
    Report report(Concat("parity ", Name(dtype), " <= ", bound));
    ForCases(AllCases(), [&](const Context& ctx, const OpCase& c) {
      TestContext processor(1, Cpu::kPortable);
      const Run exact = RunOn(processor.ctx, c, DType::kF64);
      const RunErrors errors = ErrorsOf(OnHost(ctx, RunOn(ctx, c, dtype)), exact);
      CHECK(errors.forward <= bound);
      CHECK(errors.gradients <= bound);
      report.Line(c.name, {{"forward", errors.forward}, {"gradients", errors.gradients}});
    });
  }
}

TEST_CASE("CUDA: bf16 is as near to f64 as rounding what is stored allows (P4)") {
  if (SkippedWithoutCuda()) return;
  Report report("bf16, error as a share of what P4 allows");
  ForCases(AllCases(), [&](const Context& ctx, const OpCase& c) {
    if (!c.bf16) return;
    double forward = 0, gradients = 0;
    for (const Judged& j : JudgeBF16(ctx, c)) {
      INFO(j.what);
      CHECK(j.error <= j.bound);
      double& share = j.what == "forward" ? forward : gradients;
      share = std::max(share, j.error / j.bound);
    }
    report.Line(c.name, {{"forward", forward}, {"gradients", gradients}});
  });
}

TEST_CASE("CUDA: products in bf16 of small integers are exact (P4)") {
  if (SkippedWithoutCuda()) return;
  // Sums of at most 256 terms of magnitude 1: bf16 holds them all.
  struct Shape {
    std::int64_t N, I, O;
  };
  for (const Shape& s :
       {Shape{1, 1, 1}, {1, 64, 128}, {17, 33, 65}, {128, 128, 128}, {200, 150, 101}, {256, 256, 256}}) {
    INFO("N " << s.N << ", I " << s.I << ", O " << s.O);
    const auto products = [&](TestContext& t, DType dtype) {
      const auto input = [&](std::initializer_list<std::int64_t> shape, std::uint32_t stream) {
        return ToDevice(t.ctx, SmallIntegers(t.ctx.HostArena(), dtype, shape, stream));
      };
      const Tensor x = input({s.N, s.I}, 1), w = input({s.O, s.I}, 2), dy = input({s.N, s.O}, 3),
                   y = t.arena.NewLike(dy), dx = t.arena.NewLike(x), dw = ZeroLike(t.ctx, AccumulatorOf(dtype), w);
      LinearForward(t.ctx, y, x, w, {});
      LinearBackward(t.ctx, dx.Fresh(), dw, {}, dy, x, w);
      return std::vector{OnHost(t.ctx, y), OnHost(t.ctx, dx), OnHost(t.ctx, dw)};
    };
    TestContext processor, device(Device::kCuda);
    const std::vector<Tensor> exact = products(processor, DType::kF64), got = products(device, DType::kBF16);
    for (std::size_t i = 0; i < exact.size(); ++i) CHECK(RelativeError(got[i], exact[i]) == 0);
  }
}

TEST_CASE("CUDA: every backward is the derivative of its forward, by differences on the device (P4, P5)") {
  if (SkippedWithoutCuda()) return;
  Report report(Concat("derivatives f64 <= ", kDerivativeTolerance));
  ForCases(OpCases(), [&](const Context& ctx, const OpCase& c) {
    if (SmallWithBackward(c)) report.Line(c.name, {{"error", LargestGradientError(ctx, c)}});
  });
}

TEST_CASE("CUDA: a backward adds to the gradients that are there, and leaves out those that are not wanted") {
  if (SkippedWithoutCuda()) return;
  ForCases(OpCases(), [&](const Context& ctx, const OpCase& c) {
    if (!SmallWithBackward(c)) return;
    CheckAddsToGradients(ctx, c);
    CheckFrozenInputs(ctx, c);
  });
}

TEST_CASE("CUDA: recording changes no bit of a forward (P2)") {
  if (SkippedWithoutCuda()) return;
  for (DType dtype : kDTypes) {
    ForCases(AllCases(), [&](Context ctx, const OpCase& c) {
      if (!c.differentiable) return;
      const Run recorded = RunOn(ctx, c, dtype);
      const Var inference = c.run(ctx, recorded.inputs).out;
      CHECK(inference.grad.empty());
      CHECK(SameBits(OnHost(ctx, inference.value), OnHost(ctx, recorded.result.out.value)));
    });
  }
}

TEST_CASE("CUDA: a row of a forward and of an input's gradient has the same bits alone and in any batch (P8)") {
  if (SkippedWithoutCuda()) return;
  for (DType dtype : kDTypes) {
    Report report(Concat("rows ", Name(dtype)));
    ForCases(RowCases(), [&](const Context& ctx, const OpCase& c) {
      PhiloxStream random(StreamKey(4, Purpose::kData));
      const Run batch = RunOn(ctx, c, dtype), on_host = OnHost(ctx, batch);
      int different = 0;
      for (std::int64_t rows = 1; rows <= kBatchRows; ++rows) {
        const std::int64_t begin = random.NextBelow(static_cast<std::uint32_t>(kBatchRows - rows + 1));
        INFO(Name(dtype) << ", rows " << begin << " to " << begin + rows);
        different += !CheckRows(ctx, c, batch, on_host, begin, begin + rows);
      }
      report.Line(c.name, {{"batches", kBatchRows}, {"with other bits", different}});
    });
  }
}

TEST_CASE("CUDA: rmsnorm's backward has the same bits wherever rows begin, and makes the forward's result again") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kRows = 300;
  for (DType dtype : kDTypes) {
    const std::int64_t C = 72 * 16 / static_cast<std::int64_t>(SizeOf(dtype));  // packs of 16 bytes
    Arena results;
    const auto run = [&](std::size_t offset) {
      TestContext t(Device::kCuda);
      std::uint32_t stream = 0;
      // Random numbers that begin `offset` elements after a multiple of 16 bytes.
      const auto at_offset = [&](std::initializer_list<std::int64_t> shape) {
        const Tensor host = Random(t.ctx.HostArena(), dtype, shape, ++stream);
        const Tensor room = t.arena.New(DType::kI32, {static_cast<std::int64_t>(host.bytes() / 4) + 4});
        const Tensor moved = host.Over(static_cast<std::byte*>(room.raw()) + offset * SizeOf(dtype));
        Copy(t.ctx, moved, host);
        return moved;
      };
      const Tensor x = at_offset({kRows, C}), w = at_offset({C}), dy = at_offset({kRows, C}),
                   dx = at_offset({kRows, C}), again = at_offset({kRows, C}), y = t.arena.NewLike(x);
      const Tensor rstd = t.arena.New(AccumulatorOf(dtype), {kRows}), dw = ZeroLike(t.ctx, AccumulatorOf(dtype), w);
      RmsNormForward(t.ctx, y, rstd, x, w, 1e-6);
      RmsNormBackward(t.ctx, dx, dw, dy, x, w, rstd, again);
      CHECK(SameBits(OnHost(t.ctx, again), OnHost(t.ctx, y)));
      return std::vector{CopyOf(results, OnHost(t.ctx, dx)), CopyOf(results, OnHost(t.ctx, dw))};
    };
    const std::vector<Tensor> whole = run(0), anywhere = run(1);
    for (std::size_t i = 0; i < whole.size(); ++i) CHECK(SameBits(whole[i], anywhere[i]));
  }
}

TEST_CASE("CUDA: a row of a large case has the same bits alone and in the batch (P8)") {
  if (SkippedWithoutCuda()) return;
  for (DType dtype : kDTypes) {
    ForCases(OpCases(), [&](const Context& ctx, const OpCase& c) {
      const std::int64_t N = RowsOf(c);
      if (!c.large || N == 0) return;
      const Run batch = RunOn(ctx, c, dtype), on_host = OnHost(ctx, batch);
      const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 1}, {N - 1, N}, {N / 3, N / 2 + 1}};
      for (const auto& range : ranges) {
        const std::int64_t begin = range.first, end = range.second;
        INFO(Name(dtype) << ", rows " << begin << " to " << end);
        CheckRows(ctx, c, batch, on_host, begin, end);
      }
    });
  }
}

TEST_CASE("CUDA: two runs give the same bits, all results and all gradients (P8)") {
  if (SkippedWithoutCuda()) return;
  for (DType dtype : kDTypes) {
    Report report(Concat("two runs ", Name(dtype)));
    ForCases(AllCases(), [&](const Context& ctx, const OpCase& c) {
      if (dtype == DType::kBF16 && !c.bf16) return;
      const Run once = OnHost(ctx, RunOn(ctx, c, dtype)), again = OnHost(ctx, RunOn(ctx, c, dtype));
      report.Line(c.name, {{"with other bits", CheckSameBits(again, once) ? 0.0 : 1.0}});
    });
  }
}
