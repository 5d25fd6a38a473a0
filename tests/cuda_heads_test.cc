// SPDX-License-Identifier: Apache-2.0
// What training fuses on a CUDA device beside its products, and the ops that it stands for: rotary embedding with the
// kernel before it, and a step of AdamW over all parameters.
#include <doctest/doctest.h>

#include <cmath>
#include <span>

#include "attention_pass.h"
#include "cuda_report.h"
#include "tensor/fused/adamw.h"
#include "tensor/fused/norm.h"
#include "tensor/rope_table.h"

using namespace swarr;

namespace {

constexpr double kNormEps = 1e-5;
constexpr std::int32_t kPositions = 700;

Tensor RandomOn(const Context& ctx, std::initializer_list<std::int64_t> shape, std::uint32_t seed) {
  return ToDevice(ctx, Random(ctx.HostArena(), DType::kBF16, shape, seed));
}

// Positions in no order, and a table for heads of D.
RowPositions MakePositions(const Context& ctx, std::int64_t N, std::int64_t D) {
  std::vector<std::int32_t> positions;
  for (std::int64_t n = 0; n < N; ++n) positions.push_back(static_cast<std::int32_t>(n * 37 % kPositions));
  const Tensor table = ctx.HostArena().New(DType::kF32, {kPositions, D});
  FillRopeTable(table, 10000);
  return {ToDevice(ctx, Ints(ctx.HostArena(), positions)), ToDevice(ctx, table)};
}

}  // namespace

TEST_CASE("CUDA: heads that are turned where they are multiplied have the bits of a product and rotary embedding") {
  if (SkippedWithoutCuda()) return;
  struct Shape {
    std::int64_t N, C, H, G, D;
    bool biases;
  };
  for (const Shape& s : {Shape{4000, 576, 9, 3, 64, false},
                         {3001, 384, 6, 6, 64, true},
                         {9000, 136, 3, 1, 64, true},
                         {4000, 256, 8, 4, 32, false},
                         {60, 576, 9, 3, 64, false},
                         {2000, 1024, 16, 8, 128, true}}) {
    INFO(s.N << " rows of " << s.C << ", " << s.H << " and " << s.G << " heads of " << s.D);
    TestContext t(Device::kCuda);
    const RowPositions rows = MakePositions(t.ctx, s.N, s.D);
    const Tensor x = RandomOn(t.ctx, {s.N, s.C}, 1);
    std::vector<LinearResult> fused;
    std::vector<Tensor> expected;
    for (const std::int64_t heads : {s.H, s.G, s.G}) {
      const auto seed = static_cast<std::uint32_t>(2 + 2 * fused.size());
      const Tensor w = RandomOn(t.ctx, {heads * s.D, s.C}, seed),
                   y = t.ctx.arena->New(DType::kBF16, {s.N, heads * s.D});
      fused.push_back({y, w, s.biases ? RandomOn(t.ctx, {heads * s.D}, seed + 1) : Tensor{}, fused.size() < 2});
      expected.push_back(t.ctx.arena->NewLike(y));
      LinearForward(t.ctx, expected.back(), x, w, fused.back().b);
      if (fused.back().turned) TurnHeads(t.ctx, expected.back(), rows);
    }
    LinearsForward(t.ctx, x, fused, rows);
    for (std::size_t i = 0; i < fused.size(); ++i) {
      CHECK(SameBits(OnHost(t.ctx, expected[i]), OnHost(t.ctx, fused[i].y)));
    }
  }
}

TEST_CASE(
    "CUDA: heads that are normed and turned in one launch have the bits of the two ops, for any number of heads") {
  if (SkippedWithoutCuda()) return;
  constexpr std::int64_t kD = 128;
  for (const std::int64_t H : {1, 4, 5, 8, 16}) {
    for (const std::int64_t N : {1, 33, 1000}) {
      TestContext t(Device::kCuda);
      const RowPositions rows = MakePositions(t.ctx, N, kD);
      const Tensor x = RandomOn(t.ctx, {N, H, kD}, 1), w = RandomOn(t.ctx, {kD}, 2), expected = t.ctx.arena->NewLike(x),
                   got = t.ctx.arena->NewLike(x), rstd = t.ctx.arena->New(DType::kF32, {N * H}),
                   got_rstd = t.ctx.arena->NewLike(rstd);
      RmsNormForward(t.ctx, expected, rstd, x, w, kNormEps);
      RopeForward(t.ctx, expected, expected, rows.positions, rows.table);
      REQUIRE(FusedNormAndTurn(t.ctx, got, got_rstd, x, w, kNormEps, rows));
      CHECK(SameBits(OnHost(t.ctx, expected), OnHost(t.ctx, got)));
      CHECK(SameBits(OnHost(t.ctx, rstd), OnHost(t.ctx, got_rstd)));
      Context traced = t.ctx;
      traced.trace_non_finite = true;
      CHECK(!FusedNormAndTurn(traced, got, got_rstd, x, w, kNormEps, rows));
    }
  }
}

TEST_CASE(
    "CUDA: gradients of queries and keys that attention turns back have the bits of attention and the op after it") {
  if (SkippedWithoutCuda()) return;
  for (const Heads& h : {Heads{3, 3, 64}, {6, 2, 64}, {8, 1, 128}, {2, 2, 128}, {4, 2, 32}}) {
    for (const AttentionSpec spec : {AttentionSpec{0, 0}, {40, 4}, {512, 0}}) {
      INFO(h.H << " heads over " << h.G << " of " << h.D << ", window " << spec.window);
      TestContext t(Device::kCuda);
      AttentionPass p = MakePass(t.ctx.HostArena(), DType::kBF16, {1, 63, 150, 700, 200}, h);
      for (Tensor* x : {&p.q, &p.k, &p.v, &p.dout, &p.q_pos, &p.documents, &p.out, &p.lse, &p.dq, &p.dk, &p.dv}) {
        *x = ToDevice(t.ctx, *x);
      }
      const Tensor table = MakePositions(t.ctx, 1, h.D).table;
      const AttentionInputs in{p.q, p.k, p.v, p.q_pos, p.documents, spec};
      AttentionForward(t.ctx, p.out, p.lse, in);
      const auto gradients = [&](const Tensor& rope_table) {
        AttentionBackward(t.ctx, {p.dq.Fresh(), p.dk.Fresh(), p.dv.Fresh(), {}, rope_table}, p.dout, p.out, p.lse, in);
        if (rope_table.empty()) {
          for (const Tensor& d : {p.dq, p.dk}) RopeBackward(t.ctx, d.Fresh(), d, p.q_pos, table);
        }
        return std::vector<Tensor>{OnHost(t.ctx, p.dq), OnHost(t.ctx, p.dk), OnHost(t.ctx, p.dv)};
      };
      const std::vector<Tensor> expected = gradients({}), got = gradients(table);
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(SameBits(expected[i], got[i]));
    }
  }
}

TEST_CASE(
    "CUDA: a step over all parameters in one launch has the bits of a step for each run of them, and their rounding") {
  if (SkippedWithoutCuda()) return;
  TestContext t(Device::kCuda);
  std::vector<DecayRun> runs;  // more than a launch has room for, and such that packs have elements of several
  std::int64_t n = 0;
  for (int i = 0; i < 1000; ++i) runs.push_back({n += i % 7 == 0 ? 1500 : 1 + i % 5, i % 2 == 1});
  const auto random = [&](std::uint32_t seed, bool positive = false) {
    const Tensor x = Random(t.ctx.HostArena(), DType::kF32, {n}, seed, 0.5);
    for (float& e : std::span(x.data<float>(), static_cast<std::size_t>(n))) e = positive ? std::abs(e) : e;
    return ToDevice(t.ctx, x);
  };
  const AdamWUpdate update{.lr = 1e-2, .t = 3, .grad_scale = 0.7};
  const auto make = [&] {
    return FlatParameters{random(1), t.ctx.arena->New(DType::kBF16, {n}), random(2), random(3, true), random(4)};
  };
  const FlatParameters one = make(), apart = make();
  REQUIRE(FusedAdamW(t.ctx, one, runs, update));
  std::int64_t begin = 0;
  for (const auto& [end, decays] : runs) {
    const auto part = [&](const Tensor& x) { return x.Rows(begin, end); };
    AdamWUpdate of_run = update;
    if (!decays) of_run.options.weight_decay = 0;
    AdamWStep(t.ctx, part(apart.master), part(apart.m), part(apart.v), part(apart.gradients), of_run);
    begin = end;
  }
  CastForward(t.ctx, apart.values, apart.master);
  for (const auto member : {&FlatParameters::master, &FlatParameters::values, &FlatParameters::m, &FlatParameters::v}) {
    CHECK(SameBits(OnHost(t.ctx, one.*member), OnHost(t.ctx, apart.*member)));
  }
}
