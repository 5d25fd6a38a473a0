// SPDX-License-Identifier: Apache-2.0
// The fused launches of a step of decoding (model/fused.h) beside the ops one after another.
#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "cuda_report.h"
#include "model/fused.h"
#include "op_runs.h"
#include "tensor/rope_table.h"

using namespace swarr;

namespace {

constexpr double kEps = 1e-5;

struct BlockShape {
  DType dtype;
  int H, G, D;
  std::int64_t C, F;
  bool biases, norms;
};
// Shapes of real models, a small one whose heads share a tile, and some whose widths are no multiples of any tile, one
// of them longer than what a lane keeps of a row that it norms.
constexpr BlockShape kBlockShapes[] = {
    {DType::kBF16, 9, 3, 64, 576, 1536, false, false}, {DType::kBF16, 16, 8, 128, 1024, 3072, false, true},
    {DType::kBF16, 4, 2, 32, 128, 384, true, false},   {DType::kBF16, 3, 1, 16, 40, 72, true, true},
    {DType::kBF16, 4, 2, 128, 1160, 264, true, true},  {DType::kF32, 4, 4, 32, 128, 336, false, false},
    {DType::kF32, 6, 2, 64, 384, 1000, true, false},   {DType::kF32, 3, 1, 32, 76, 40, true, false}};
constexpr std::int64_t kRowCounts[] = {1, 2, 16, 17, 33, 64, 65, 100, 130, 256, 384, 512};

// A block's weights and rows on the device.
struct BlockProblem {
  BlockProblem(TestContext& t, const BlockShape& s, std::int64_t N) {
    std::uint32_t seed = 1;
    const auto random = [&](std::initializer_list<std::int64_t> shape, bool wanted = true) {
      return wanted ? ToDevice(t.ctx, Random(*t.ctx.host, s.dtype, shape, seed++)) : Tensor{};
    };
    const std::int64_t q = s.H * s.D, k = s.G * s.D;
    in = {random({N, s.C}), random({s.C}), kEps};
    weights = {random({q, s.C}),      random({k, s.C}),      random({k, s.C}),       random({q}, s.biases),
               random({k}, s.biases), random({k}, s.biases), random({s.D}, s.norms), random({s.D}, s.norms)};
    gate = random({s.F, s.C});
    up = random({s.F, s.C});
    const Tensor table = t.ctx.host->New(DType::kF32, {kLength, s.D}), ints = t.ctx.host->New(DType::kI32, {2, N});
    FillRopeTable(table, 10000.0);
    for (std::int64_t n = 0; n < N; ++n) {
      ints.data<std::int32_t>()[n] = static_cast<std::int32_t>(n * 7 % kLength);
      ints.data<std::int32_t>()[N + n] = static_cast<std::int32_t>(n);
    }
    const Tensor on_device = ToDevice(t.ctx, ints);
    rows = {on_device.Rows(0, 1).Reshape({N}), on_device.Rows(1, 2).Reshape({N}), ToDevice(t.ctx, table)};
  }

  static constexpr int kLength = 200;
  NormedRows in;
  QkvWeights weights;
  Tensor gate, up;
  QkvRows rows;
};

Tensor Normed(TestContext& t, const Tensor& x, const Tensor& w) {
  return w.empty() ? x : RmsNorm(t.ctx, {x, {}}, {w, {}}, kEps).value;
}
Tensor Product(TestContext& t, const Tensor& x, const Tensor& w, const Tensor& bias = {}) {
  const Tensor y = t.ctx.arena->New(x.dtype(), {x.dim(0), w.dim(0)});
  LinearForward(t.ctx, y, x, w, bias);
  return y;
}

}  // namespace

TEST_CASE("CUDA: fused launches of decoding have the bits of the ops one after another, for any number of rows") {
  if (SkippedWithoutCuda()) return;
  for (const BlockShape& s : kBlockShapes) {
    for (const std::int64_t N : kRowCounts) {
      INFO(Name(s.dtype) << ", width " << s.C << ", heads of " << s.D << ", " << N << " rows");
      TestContext t(Device::kCuda);
      const BlockProblem p(t, s, N);
      const Tensor m = Normed(t, p.in.x, p.in.weight);

      const Tensor gated = t.ctx.arena->New(s.dtype, {N, s.F});
      SwiGluForward(t.ctx, gated, Product(t, m, p.gate), Product(t, m, p.up));
      const Tensor fused = FusedGated(t.ctx, p.in, p.gate, p.up);
      REQUIRE(!fused.empty());
      CHECK(SameBits(OnHost(t.ctx, gated), OnHost(t.ctx, fused)));

      const auto new_cache = [&] {
        return KeyCache(s.dtype, static_cast<int>(N), s.G, s.D, {0, 0}, BlockProblem::kLength, 1, MemoryKind::kDevice);
      };
      const KeyCache expected = new_cache(), got = new_cache();
      const QkvWeights& w = p.weights;
      const auto heads = [&](const Tensor& weight, const Tensor& bias, const Tensor& norm, bool turned) {
        const Tensor x = Normed(t, Product(t, m, weight, bias).Reshape({N, weight.dim(0) / s.D, s.D}), norm);
        return turned ? Rope(t.ctx, {x, {}}, p.rows.positions, p.rows.table).value : x;
      };
      const Tensor q = heads(w.q, w.q_bias, w.q_norm, true);
      StoreKeys(t.ctx, expected, heads(w.k, w.k_bias, w.k_norm, true), heads(w.v, w.v_bias, {}, false),
                p.rows.positions, p.rows.slots);
      const Tensor fused_q = FusedQkv(t.ctx, got, s.D, p.in, w, p.rows);
      REQUIRE(!fused_q.empty());
      CHECK(SameBits(OnHost(t.ctx, q), OnHost(t.ctx, fused_q)));
      CHECK(SameBits(OnHost(t.ctx, expected.k()), OnHost(t.ctx, got.k())));
      CHECK(SameBits(OnHost(t.ctx, expected.v()), OnHost(t.ctx, got.v())));
    }
  }
}

// The launch before last has stored other keys in the same places: they would be seen if attention did not wait.
TEST_CASE("CUDA: attention of a recorded step, which copies older keys early, waits for the keys of its own rows") {
  if (SkippedWithoutCuda()) return;
  for (const BlockShape& s : kBlockShapes) {
    for (const std::int64_t N : {std::int64_t{1}, std::int64_t{64}, std::int64_t{256}}) {
      INFO(Name(s.dtype) << ", heads of " << s.D << ", " << N << " rows");
      TestContext t(Device::kCuda);
      const BlockProblem p(t, s, N);
      NormedRows others = p.in;
      others.x = ToDevice(t.ctx, Random(*t.ctx.host, s.dtype, {N, s.C}, 99));
      const KeyCache cache(s.dtype, static_cast<int>(N), s.G, s.D, {0, 0}, BlockProblem::kLength, 1,
                           MemoryKind::kDevice);
      const auto attend = [&](const Context& ctx) {
        FusedQkv(ctx, cache, s.D, others, p.weights, p.rows);
        const Tensor q = FusedQkv(ctx, cache, s.D, p.in, p.weights, p.rows), out = ctx.arena->NewLike(q),
                     lse = ctx.arena->New(DType::kF32, {N, s.H});
        CachedAttentionForward(ctx, out, lse, {q, cache, p.rows.positions, p.rows.slots, {0, 0}});
        return OnHost(ctx, out);
      };
      const Tensor expected = attend(t.ctx);
      Context recorded = t.ctx;
      recorded.steady_weights = true;
      int different = 0;
      for (int i = 0; i < 10; ++i) different += !SameBits(expected, attend(recorded));
      CHECK(different == 0);
    }
  }
}

TEST_CASE(
    "CUDA: what follows attention has in one launch the bits of the ops one after another, for any number of rows") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kWidth = 384, kUnits = 1024;
  for (const std::int64_t attended : {kWidth, std::int64_t{128}}) {
    for (const std::int64_t N : kRowCounts) {
      INFO(attended << " numbers of attention, " << N << " rows");
      TestContext t(Device::kCuda);
      std::uint32_t seed = 1;
      const auto random = [&](std::initializer_list<std::int64_t> shape) {
        return ToDevice(t.ctx, Random(*t.ctx.host, DType::kBF16, shape, seed++));
      };
      const NormedRows in{random({N, kWidth}), random({kWidth}), kEps};
      const Tensor rows = random({N, attended});
      const RestWeights w{random({kWidth, attended}), random({kUnits, kWidth}), random({kUnits, kWidth}),
                          random({kWidth, kUnits})};
      const auto added = [&](const Tensor& x, const Tensor& weight, const Tensor& to) {
        const Tensor y = t.ctx.arena->New(DType::kBF16, {N, weight.dim(0)});
        LinearForward(t.ctx, y, x, weight, {}, to);
        return y;
      };
      const Tensor y = added(rows, w.output, in.x), m = Normed(t, y, in.weight),
                   gated = t.ctx.arena->New(DType::kBF16, {N, kUnits});
      SwiGluForward(t.ctx, gated, Product(t, m, w.gate), Product(t, m, w.up));
      const Tensor expected = added(gated, w.down, y);
      Context recorded = t.ctx;
      recorded.steady_weights = true;
      int different = 0;
      for (int i = 0; i < 10; ++i) {
        const Tensor fused = FusedRest(i % 2 == 0 ? t.ctx : recorded, in, rows, w);
        REQUIRE(fused.empty() == (N <= 64));  // few rows are left to launches of many blocks
        if (fused.empty()) break;
        different += !SameBits(OnHost(t.ctx, expected), OnHost(t.ctx, fused));
      }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("CUDA: a product of few rows waits for a weight that the product before it makes") {
  if (SkippedWithoutCuda()) return;
  TestContext t(Device::kCuda);
  const auto random = [&](std::initializer_list<std::int64_t> shape, std::uint32_t seed) {
    return ToDevice(t.ctx, Random(*t.ctx.host, DType::kBF16, shape, seed));
  };
  const Tensor x = random({16, 64}, 1), a = random({256, 1024}, 2), b = random({64, 1024}, 3);
  const Tensor w = Product(t, a, b);
  Wait(t.ctx);
  const Tensor expected = OnHost(t.ctx, Product(t, x, w));
  for (int i = 0; i < 20; ++i) CHECK(SameBits(expected, OnHost(t.ctx, Product(t, x, Product(t, a, b)))));
}

TEST_CASE(
    "CUDA: nothing is fused in other dtypes, of many rows, under a library's products or while values are traced") {
  if (SkippedWithoutCuda()) return;
  TestContext t(Device::kCuda);
  const BlockProblem p(t, kBlockShapes[2], 16), many(t, kBlockShapes[2], 513);
  CHECK(!FusedGated(t.ctx, p.in, p.gate, p.up).empty());
  CHECK(FusedGated(t.ctx, many.in, many.gate, many.up).empty());
  const Tensor x = t.ctx.arena->New(DType::kF64, {16, 128}), w = t.ctx.arena->New(DType::kF64, {384, 128});
  CHECK(FusedGated(t.ctx, {x, t.ctx.arena->New(DType::kF64, {128}), kEps}, w, w).empty());
  Context library = t.ctx, traced = t.ctx;
  library.gemm = GemmKind::kCublas;
  traced.trace_non_finite = true;
  CHECK(FusedGated(library, p.in, p.gate, p.up).empty());
  CHECK(FusedGated(traced, p.in, p.gate, p.up).empty());
}
