// SPDX-License-Identifier: Apache-2.0
// A row depends on itself alone, bit for bit, in every op on every processor (P8).
#include "op_checks.h"

using namespace swarr;

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
          CheckRows(t.ctx, c, batch, batch, begin, begin + rows);
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
          CheckRows(t.ctx, c, batch, batch, begin, end);
        }
      }
    }
  }
}
