// SPDX-License-Identifier: Apache-2.0
// A row depends on itself alone, bit for bit, in every op on every processor (P8).
#include "op_runs.h"

using namespace swarr;

namespace {

// What a batch holds of rows [begin, end), forward and backward, must be what these rows give alone.
void CheckRows(const Context& ctx, const OpCase& c, const Run& batch, std::int64_t begin, std::int64_t end) {
  ArenaScope scope(*ctx.arena);
  std::vector<Var> some = batch.inputs;
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (c.inputs[i].per_row) some[i].value = some[i].value.Rows(begin, end);
    if (!some[i].grad.empty()) some[i].grad = ZeroLike(*ctx.arena, some[i].grad.dtype(), some[i].value);
  }
  const Run part = RunOn(ctx, c, some, [&](const Tensor& dout) { Copy(dout, batch.result.out.grad.Rows(begin, end)); });
  CHECK(SameBits(part.result.out.value, batch.result.out.value.Rows(begin, end)));
  for (std::size_t i = 0; i < part.result.also.size(); ++i) {
    CHECK(SameBits(part.result.also[i], batch.result.also[i].Rows(begin, end)));
  }
  for (std::size_t i = 0; i < some.size(); ++i) {
    if (!c.inputs[i].per_row || some[i].grad.empty()) continue;
    INFO(Describe(c, i));
    CHECK(SameBits(part.inputs[i].grad, batch.inputs[i].grad.Rows(begin, end)));
  }
}

}  // namespace

TEST_CASE("a row of a forward and of an input's gradient has the same bits alone and in any batch (P8)") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (const OpCase& c : RowCases()) {
        PhiloxStream random(StreamKey(4, Purpose::kData));
        TestContext t(1, cpu);
        const Run batch = RunOn(t.ctx, c, dtype);
        for (std::int64_t rows = 1; rows <= kBatchRows; ++rows) {
          const std::int64_t begin = random.NextBelow(static_cast<std::uint32_t>(kBatchRows - rows + 1));
          INFO(c.name << " " << Name(cpu) << " " << Name(dtype) << ", rows " << begin << " to " << begin + rows);
          CheckRows(t.ctx, c, batch, begin, begin + rows);
        }
      }
    }
  }
}

TEST_CASE("a row has the same bits in batches that several threads share out (P8)") {
  for (const OpCase& c : OpCases()) {
    if (!c.large || RowsOf(c) == 0) continue;
    for (Cpu cpu : SupportedCpus()) {
      for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
        TestContext t(2, cpu);
        const Run batch = RunOn(t.ctx, c, dtype);
        const std::int64_t N = RowsOf(c);
        const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 1}, {N - 1, N}, {N / 3, N / 2 + 1}};
        for (const auto& range : ranges) {
          const std::int64_t begin = range.first, end = range.second;
          INFO(c.name << " " << Name(cpu) << " " << Name(dtype) << ", rows " << begin << " to " << end);
          CheckRows(t.ctx, c, batch, begin, end);
        }
      }
    }
  }
}
