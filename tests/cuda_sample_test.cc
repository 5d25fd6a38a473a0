// SPDX-License-Identifier: Apache-2.0
// Draws on a CUDA device beside the processor's. Logits are exact here: of one weight, which is multiplied by 1. Scores
// are computed in f64 by the same single operations, so the tokens are the same.
#include <doctest/doctest.h>

#include <algorithm>
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

// More than a few rows draw within the product of their head, few from logits in memory.
TEST_CASE("CUDA: a row's token and log p do not depend on the number of rows that draw with it (P8)") {
  if (SkippedWithoutCuda()) return;
  struct HeadShape {
    std::int64_t V, C;
    double scale;  // of x
  };
  for (const HeadShape s : {HeadShape{49152, 576, 4}, HeadShape{151936, 128, 3}, HeadShape{9001 * 8, 64, 0},
                            HeadShape{20008, 128, 100}, HeadShape{256, 384, 2}, HeadShape{8200, 64, 1}}) {
    TestContext t(Device::kCuda);
    const Tensor w = ToDevice(t.ctx, Random(*t.ctx.host, DType::kBF16, {s.V, s.C}, 2));
    for (const std::int64_t N : {256, 65, 300}) {
      INFO(s.V << " entries, width " << s.C << ", " << N << " rows");
      Arena& host = t.ctx.HostArena();
      const Tensor x = Random(host, DType::kBF16, {N, s.C}, 1), positions = host.New(DType::kI32, {N});
      std::vector<SampleRow> rows;
      for (std::int64_t n = 0; n < N; ++n) {
        for (std::int64_t c = 0; c < s.C; ++c) {
          BFloat16& at = x.data<BFloat16>()[n * s.C + c];
          at = BFloat16(static_cast<float>(s.scale) * float(at));
        }
        positions.data<std::int32_t>()[n] = static_cast<std::int32_t>(3 * n);
        constexpr double kTemperatures[] = {1.0, 0.0, 0.3, 2.0};
        rows.push_back({StreamKey(5, Purpose::kSample, static_cast<std::uint32_t>(n)), kTemperatures[n % 4]});
      }
      const Tensor moved = ToDevice(t.ctx, x), at = ToDevice(t.ctx, positions),
                   tokens = t.ctx.arena->New(DType::kI32, {2, N}), logp = t.ctx.arena->New(DType::kF32, {2, N});
      const auto draw = [&](std::int64_t which, std::int64_t begin, std::int64_t end) {
        SampleForward(t.ctx, tokens.Rows(which, which + 1).Reshape({N}).Rows(begin, end),
                      logp.Rows(which, which + 1).Reshape({N}).Rows(begin, end), moved.Rows(begin, end), w,
                      at.Rows(begin, end), rows.data() + begin);
      };
      draw(0, 0, N);
      constexpr std::int64_t kFew = 16;
      for (std::int64_t begin = 0; begin < N; begin += kFew) draw(1, begin, std::min(N, begin + kFew));
      Wait(t.ctx);
      CHECK(SameBits(OnHost(t.ctx, tokens.Rows(0, 1)), OnHost(t.ctx, tokens.Rows(1, 2))));
      CHECK(SameBits(OnHost(t.ctx, logp.Rows(0, 1)), OnHost(t.ctx, logp.Rows(1, 2))));
    }
  }
}
