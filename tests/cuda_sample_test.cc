// SPDX-License-Identifier: Apache-2.0
// Draws on a CUDA device beside the processor's. Logits are exact here: of one weight, which is multiplied by 1. Scores
// are computed in f64 by the same single operations, so the tokens are the same.
#include <doctest/doctest.h>

#include <cmath>

#include "cuda_report.h"
#include "tensor/ops.h"
#include "tensor/philox.h"
#include "tensors.h"

using namespace swarr;

namespace {

constexpr int kDrawnRows = 5;

enum class LogitKind : std::uint8_t { kRandom, kEqual, kTied };  // tied: every third is a largest one

Tensor DrawnLogits(Arena& arena, LogitKind kind, std::int64_t V) {
  const Tensor z = arena.New(DType::kF32, {V, 1});
  PhiloxStream random(static_cast<std::uint64_t>(V));
  for (std::int64_t v = 0; v < V; ++v) {
    const auto x = static_cast<float>(4 * random.NextNormal());
    const float tied = v % 3 == 1 ? 20.0f : x;
    z.data<float>()[v] = kind == LogitKind::kRandom ? x : kind == LogitKind::kEqual ? 1.5f : tied;
  }
  return z;
}

struct DrawnTokens {
  Tensor tokens, logp;
};
DrawnTokens Draw(TestContext& t, const Tensor& logits, double temperature) {
  Arena& host = t.ctx.HostArena();
  const Tensor x = host.New(DType::kF32, {kDrawnRows, 1}), positions = host.New(DType::kI32, {kDrawnRows});
  std::vector<SampleRow> rows;
  for (int n = 0; n < kDrawnRows; ++n) {
    x.data<float>()[n] = 1;
    positions.data<std::int32_t>()[n] = 7 * n;
    rows.push_back({StreamKey(3, Purpose::kSample, static_cast<std::uint32_t>(n)), temperature});
  }
  const DrawnTokens d{t.ctx.arena->New(DType::kI32, {kDrawnRows}), t.ctx.arena->New(DType::kF32, {kDrawnRows})};
  SampleForward(t.ctx, d.tokens, d.logp, ToDevice(t.ctx, x), ToDevice(t.ctx, logits), ToDevice(t.ctx, positions),
                rows.data());
  Wait(t.ctx);
  return {OnHost(t.ctx, d.tokens), OnHost(t.ctx, d.logp)};
}

}  // namespace

TEST_CASE("CUDA: a draw has the processor's token, however long the row and however many scores are equal (P9)") {
  if (SkippedWithoutCuda()) return;
  for (const std::int64_t V : {1, 2, 63, 257, 4096, 4097, 9001, 49152, 140'000}) {
    for (const LogitKind kind : {LogitKind::kRandom, LogitKind::kEqual, LogitKind::kTied}) {
      for (const double temperature : {0.0, 0.5, 1.0, 3.0}) {
        INFO(V << " entries, kind " << static_cast<int>(kind) << ", temperature " << temperature);
        TestContext processor(1), device(Device::kCuda);
        const DrawnTokens expected = Draw(processor, DrawnLogits(processor.ctx.HostArena(), kind, V), temperature),
                          got = Draw(device, DrawnLogits(device.ctx.HostArena(), kind, V), temperature);
        CHECK(SameBits(expected.tokens, got.tokens));
        // Log p, down to -80, is kept to 4e-6. Of the sum of exponentials, each e^-d errs by d 2^-23 of itself on the
        // device and d e^-d < 0.4, and adding 140,000 terms errs by 1e-6 or so. The rest is room.
        for (int n = 0; n < kDrawnRows; ++n) CHECK(std::abs(ValueAt(expected.logp, n) - ValueAt(got.logp, n)) < 1e-4);
      }
    }
  }
}
