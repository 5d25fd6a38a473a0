// SPDX-License-Identifier: Apache-2.0
#include "attn/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "attention_pass.h"
#include "autograd/gradient_check.h"
#include "plain/attention.h"

using namespace swarr;

namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16};

bool AllFinite(const Tensor& t) {
  for (std::int64_t i = 0; i < t.size(); ++i) {
    if (!std::isfinite(ValueAt(t, i))) return false;
  }
  return true;
}

// out and lse of the kernel under `kernel`, against the definition under `definition`.
double ErrorAgainst(AttentionSpec kernel, AttentionSpec definition, int T, Heads h, DType dtype, Cpu cpu = BestCpu()) {
  TestContext t(1, cpu);
  const AttentionPass p = RunPass(t.ctx, dtype, {T}, h, kernel);
  const Tensor out = t.arena.New(DType::kF64, {T, h.H, h.D}), lse = t.arena.New(DType::kF64, {T, h.H});
  plain::AttentionForward(out, lse,
                          {InF64(t.arena, p.q), InF64(t.arena, p.k), InF64(t.arena, p.v),
                           plain::WithinDocuments(p.documents, p.q_pos, definition)});
  return std::max(RelativeError(p.out, out), RelativeError(p.lse, lse));
}

}  // namespace

TEST_CASE("attention agrees with its O(T^2) definition for every window, sink and head grouping") {
  for (DType dtype : {DType::kF64, DType::kF32}) {
    // A score is a sum of at most 17 products and below 20 in magnitude here; its rounding, 17 units of 20, becomes the
    // relative error of a weight. Two such computations are compared, and up to 75 keys are summed, of which the few
    // largest count: 4 * 17 * 20 units of 2^-53 or 2^-24 bound it, and are far below what one key more or less changes
    // (the test after the next).
    const double bound = 4 * 17 * 20 * (dtype == DType::kF64 ? 0x1p-53 : 0x1p-24);
    for (Cpu cpu : SupportedCpus()) {
      for (int T : {1, 2, 5, 23, 75}) {
        for (AttentionSpec spec : SpecsFor(T)) {
          for (const Heads& h : kHeads) {
            INFO(Name(cpu) << " T=" << T << " W=" << spec.window << " S=" << spec.sinks << " H=" << h.H
                           << " G=" << h.G);
            CHECK(ErrorAgainst(spec, spec, T, h, dtype, cpu) <= bound);
          }
        }
      }
      CHECK(ErrorAgainst({20, 4}, {20, 4}, 75, kManyHeads, dtype, cpu) <= bound);
    }
  }
}

// The boundary itself: W counts the current token.
static_assert(Visible(9, 9, {1, 0}) && !Visible(9, 8, {1, 0}));
static_assert(Visible(9, 7, {3, 0}) && !Visible(9, 6, {3, 0}));
static_assert(Visible(9, 0, {10, 0}) && !Visible(9, 0, {9, 0}));
static_assert(Visible(9, 0, {3, 1}) && !Visible(9, 1, {3, 1}) && Visible(9, 3, {3, 4}) && !Visible(9, 4, {3, 4}));
static_assert(!Visible(3, 4, {0, 0}) && !Visible(3, 4, {3, 8}) && Visible(3, 0, {0, 0}) && !Visible(3, -1, {0, 4}));
static_assert(!Visible(-1, 0, {3, 4}) && !Visible(-1, -1, {0, 0}));

TEST_CASE("a window that is off by one is caught (P7)") {
  // One key more or less carries a weight of the order of 1/W: with W <= 7 a difference of percents, against a bound of
  // 1e-12 in the test above.
  for (int window : {2, 3, 7}) {
    for (int sinks : {0, 1, 4}) {
      for (const Heads& h : kHeads) {
        INFO("W=" << window << " S=" << sinks);
        CHECK(ErrorAgainst({window, sinks}, {window + 1, sinks}, 23, h, DType::kF64) > 0.01);
        CHECK(ErrorAgainst({window, sinks}, {window - 1, sinks}, 23, h, DType::kF64) > 0.01);
        CHECK(ErrorAgainst({window, sinks}, {window, sinks + 1}, 23, h, DType::kF64) > 0.01);
      }
    }
  }
}

TEST_CASE("a window that reaches back to the start is full attention, bit for bit (P6)") {
  for (const auto& [T, dtype] :
       {std::pair{23, DType::kF32}, {23, DType::kF64}, {75, DType::kF32}, {75, DType::kBF16}}) {
    for (const Heads& h : kHeads) {
      TestContext t;
      const AttentionPass full = RunPass(t.ctx, dtype, {T}, h, {0, 0});
      for (AttentionSpec spec : {AttentionSpec{T, 0}, {T, 1}, {T, 4}, {T + 5, 0}, {T + 5, 4}, {0, 4}, {1, T}}) {
        INFO("W=" << spec.window << " S=" << spec.sinks);
        CheckSameResults(RunPass(t.ctx, dtype, {T}, h, spec), full);
      }
      CHECK(!SameBits(RunPass(t.ctx, dtype, {T}, h, {T - 1, 0}).out, full.out));
    }
  }
}

TEST_CASE("documents packed in one row have the bits of the same documents alone, forward and backward (P8)") {
  const std::vector<int> lengths = {5, 1, 40, 3, 33};
  for (DType dtype : kDTypes) {
    for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 0}, {3, 4}, {7, 1}, {40, 0}}) {
      for (const Heads& h : kHeads) {
        TestContext t;
        const AttentionPass packed = RunPass(t.ctx, dtype, lengths, h, spec);
        std::int64_t begin = 0;
        for (int length : lengths) {
          INFO("document of " << length << " tokens at row " << begin << ", W=" << spec.window << " S=" << spec.sinks);
          const auto rows = [&](const Tensor& x) { return x.Rows(begin, begin + length); };
          AttentionPass inputs;
          inputs.q = rows(packed.q), inputs.dout = rows(packed.dout);
          inputs.k = rows(packed.k), inputs.v = rows(packed.v);
          AttentionPass alone = MakePass(t.arena, dtype, {length}, h, LearnedSinks::kWithout, &inputs);
          RunAttention(t.ctx, alone, spec);
          CHECK(SameBits(rows(packed.out), alone.out));
          CHECK(SameBits(rows(packed.lse), alone.lse));
          CHECK(SameBits(rows(packed.dq), alone.dq));
          CHECK(SameBits(rows(packed.dk), alone.dk));
          CHECK(SameBits(rows(packed.dv), alone.dv));
          begin += length;
        }
      }
    }
  }
}

namespace {

// Two sequences decoded together from one cache, `chunk` tokens of each at a time; everything that the cache has not
// been given yet is garbage. Every row of out and lse must have the bits of the same row without a cache.
void CheckRingDecode(Cpu cpu, DType dtype, AttentionSpec spec, int T, int chunk, Heads h,
                     LearnedSinks learned = LearnedSinks::kWithout) {
  INFO(Name(cpu) << " " << Name(dtype) << " W=" << spec.window << " S=" << spec.sinks << " chunk=" << chunk
                 << " H=" << h.H << " G=" << h.G << " learned=" << (learned == LearnedSinks::kWith));
  TestContext t(1, cpu);
  const std::vector<int> lengths = {T, T};
  const AttentionPass full = RunPass(t.ctx, dtype, lengths, h, spec, learned);
  const KeyCache cache(dtype, /*slots=*/3, static_cast<int>(h.G), static_cast<int>(h.D), spec, T, chunk);
  if (spec.window != 0) {  // O(W), whatever T (P7)
    CHECK(cache.tiles() <= SinkTiles(spec) + (spec.window + chunk) / kKeyTile + 2);
  }
  for (const Tensor& x : {cache.k(), cache.v()}) Fill(x, dtype == DType::kF64 ? 1e308 : 3e38);
  const int slot_of[] = {2, 0};
  for (int begin = 0; begin < T; begin += chunk) {
    const int count = std::min(chunk, T - begin);
    const auto rows = [&](const Tensor& all, std::int64_t heads) {
      const Tensor part = t.arena.New(dtype, {2 * count, heads, h.D});
      for (int d : {0, 1}) Copy(part.Rows(d * count, (d + 1) * count), all.Rows(d * T + begin, d * T + begin + count));
      return part;
    };
    std::vector<std::int32_t> positions, slots;
    for (int document : {0, 1}) {
      for (int i = 0; i < count; ++i) positions.push_back(begin + i);
      slots.insert(slots.end(), static_cast<std::size_t>(count), slot_of[document]);
    }
    const Tensor at = Ints(t.arena, positions), slot = Ints(t.arena, slots);
    const Tensor out = t.arena.New(dtype, {2 * count, h.H, h.D});
    const Tensor lse = t.arena.New(AccumulatorOf(dtype), {2 * count, h.H});
    StoreKeys(t.ctx, cache, rows(full.k, h.G), rows(full.v, h.G), at, slot);
    CachedAttentionForward(t.ctx, out, lse, {rows(full.q, h.H), cache, at, slot, spec, full.sink_logits});
    for (int document : {0, 1}) {
      const int first = document * T + begin;
      CHECK(SameBits(out.Rows(document * count, (document + 1) * count), full.out.Rows(first, first + count)));
      CHECK(SameBits(lse.Rows(document * count, (document + 1) * count), full.lse.Rows(first, first + count)));
    }
  }
}

}  // namespace

TEST_CASE("attention over a ring cache with garbage in unused rows has the bits of attention without one (P7, P8)") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : kDTypes) {
      for (int window : {0, 1, 3, 7, 40}) {
        for (int sinks : {0, 1, 4}) {
          const int T = window == 40 ? 170 : 110;  // more than three windows, and three tiles
          for (int chunk : {1, 5, 40}) CheckRingDecode(cpu, dtype, {window, sinks}, T, chunk, kHeads[1]);
          CheckRingDecode(cpu, dtype, {window, sinks}, T, 5, kHeads[1], LearnedSinks::kWith);
        }
      }
      CheckRingDecode(cpu, dtype, {3, 1}, 110, 3, kHeads[2]);
      for (LearnedSinks learned : kWithAndWithout) CheckRingDecode(cpu, dtype, {20, 4}, 75, 5, kManyHeads, learned);
      CheckRingDecode(cpu, dtype, {33, 40}, 150, 2, {2, 1, 40});  // two tiles of sinks; heads of two panels
      CheckRingDecode(cpu, dtype, {3, 200}, 110, 1, kHeads[0]);   // more sinks than tokens
    }
  }
}

// What a ring of tiles keeps of a window's keys, against tiles that all stay.
static void CheckRingOfTiles(Cpu cpu, DType dtype, AttentionSpec spec, const Heads& h) {
  INFO(Name(cpu) << " " << Name(dtype) << " W=" << spec.window << " S=" << spec.sinks << " H=" << h.H);
  constexpr int kTokens = 250;  // eight tiles; a window of 40 and a block of 32 queries keep four
  const std::vector<int> lengths = {kTokens, 70, kTokens};
  TestContext t(2, cpu);
  const AttentionPass ring = RunPass(t.ctx, dtype, lengths, h, spec);
  AttentionPass all = MakePass(t.arena, dtype, lengths, h);
  all.prompts = Ints(t.arena, std::vector<std::int32_t>(2 * kTokens + 70, spec.sinks));
  RunAttention(t.ctx, all, {spec.window, 0, /*prompt=*/true});  // a prompt may be any long, so no tile goes
  CheckSameResults(ring, all);
}

TEST_CASE("keys of a window that go round a ring of tiles give the bits of tiles that all stay, forward and backward") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : kDTypes) {
      for (AttentionSpec spec : {AttentionSpec{1, 0}, {5, 4}, {40, 0}, {40, 40}}) {
        for (const Heads& h : kHeads) CheckRingOfTiles(cpu, dtype, spec, h);
      }
      // Alone in a block, a query sees no more tiles than these windows touch from the last key of a tile on.
      for (int window : {2, 34}) CheckRingOfTiles(cpu, dtype, {window, 0}, kManyHeads);
    }
  }
}

TEST_CASE("a query has the same bits whichever queries stand beside it, forward and backward (P8)") {
  // The others see nothing here, so that blocks of queries are cut elsewhere and visit other tiles.
  const std::vector<int> lengths = {90, 1, 70};
  PhiloxStream random(StreamKey(5, Purpose::kData));
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : kDTypes) {
      for (AttentionSpec spec : {AttentionSpec{0, 0}, {20, 4}, {33, 40}}) {
        for (const Heads& h : kHeads) {
          TestContext t(2, cpu);
          const AttentionPass all = RunPass(t.ctx, dtype, lengths, h, spec);
          for (std::uint32_t one_in : {2u, 10u, 80u}) {
            INFO(Name(cpu) << " " << Name(dtype) << " W=" << spec.window << " S=" << spec.sinks << " H=" << h.H);
            AttentionPass some = MakePass(t.arena, dtype, lengths, h);
            std::vector<std::int64_t> sighted;
            for (std::int64_t n = 0; n < some.q.dim(0); ++n) {
              if (random.NextBelow(one_in) == 0) {
                sighted.push_back(n);
              } else {
                some.q_pos.data<std::int32_t>()[n] = -1;
              }
            }
            RunAttention(t.ctx, some, spec);
            for (std::int64_t n : sighted) {
              CHECK(SameBits(some.out.Rows(n, n + 1), all.out.Rows(n, n + 1)));
              CHECK(SameBits(some.lse.Rows(n, n + 1), all.lse.Rows(n, n + 1)));
              CHECK(SameBits(some.dq.Rows(n, n + 1), all.dq.Rows(n, n + 1)));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a result that underflows is the same 0 whichever queries stand beside it (P8)") {
  for (Cpu cpu : SupportedCpus()) {
    for (DType dtype : kDTypes) {
      // Key 0 weighs so little that its product with a tiny negative value is -0; so is the sum with the others' -0,
      // until a tile is added of which the query sees nothing.
      const bool wide = dtype == DType::kF64;
      TestContext t(1, cpu);
      AttentionPass p = MakePass(t.arena, dtype, {34}, {1, 1, 1});
      Fill(p.q, 1), Fill(p.k, 0), Fill(p.v, -0.0), FillZero(p.dout);
      Fill(p.k.Rows(0, 1), wide ? -600 : -80);
      Fill(p.v.Rows(0, 1), wide ? -1e-100 : -1e-30);
      Fill(p.v.Rows(32, 34), 1);
      for (std::int64_t n = 0; n < 34; ++n) p.q_pos.data<std::int32_t>()[n] = -1;
      p.q_pos.data<std::int32_t>()[31] = 31;
      RunAttention(t.ctx, p, {0, 0});
      const Tensor alone = CopyOf(t.arena, p.out);
      p.q_pos.data<std::int32_t>()[32] = 32;  // in the same block
      RunAttention(t.ctx, p, {0, 0});
      INFO(Name(cpu) << " " << Name(dtype));
      CHECK(ValueAt(alone, 31) == 0);
      CHECK(SameBits(p.out.Rows(31, 32), alone.Rows(31, 32)));
    }
  }
}

TEST_CASE("a row that sees nothing has out 0, lse -infinity and gradient 0, and others do not notice (P5)") {
  const std::vector<int> blind = {0, 4, 8};
  for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 4}}) {
    for (const Heads& h : kHeads) {
      TestContext t;
      AttentionPass p = MakePass(t.arena, DType::kF32, {5, 4}, h);
      for (int n : blind) {
        p.q_pos.data<std::int32_t>()[n] = -1;
        std::fill_n(p.q.data<float>() + n * h.H * h.D, h.H * h.D, 1e30F);
      }
      RunAttention(t.ctx, p, spec);
      for (int n : blind) {
        for (std::int64_t i = n * h.H * h.D; i < (n + 1) * h.H * h.D; ++i) {
          CHECK(ValueAt(p.out, i) == 0);
          CHECK(ValueAt(p.dq, i) == 0);
        }
        for (std::int64_t i = n * h.H; i < (n + 1) * h.H; ++i) {
          CHECK(ValueAt(p.lse, i) == -std::numeric_limits<double>::infinity());
        }
      }
      for (const Tensor& gradient : {p.dq, p.dk, p.dv}) CHECK(AllFinite(gradient));
      // Without these rows' gradients nothing else changes; with the rows sighted, every other query stays as it was.
      AttentionPass silent = p;
      silent.dq = CopyOf(t.arena, p.dq), silent.dk = CopyOf(t.arena, p.dk), silent.dv = CopyOf(t.arena, p.dv);
      silent.dout = CopyOf(t.arena, p.dout);
      for (int n : blind) FillZero(silent.dout.Rows(n, n + 1));
      RunAttention(t.ctx, silent, spec);
      CheckSameResults(silent, p);
      const AttentionPass sighted = RunPass(t.ctx, DType::kF32, {5, 4}, h, spec);
      for (int n : {1, 2, 3, 5, 6, 7}) {
        CHECK(SameBits(p.out.Rows(n, n + 1), sighted.out.Rows(n, n + 1)));
        CHECK(SameBits(p.dq.Rows(n, n + 1), sighted.dq.Rows(n, n + 1)));
      }
    }
  }
}

TEST_CASE("scores of any size give finite weights") {
  TestContext t;
  for (DType dtype : {DType::kF32, DType::kF64}) {
    AttentionPass p = MakePass(t.arena, dtype, {9}, kHeads[1]);
    DispatchSum(dtype, [&]<class R>() {
      for (std::int64_t i = 0; i < p.q.size(); ++i) p.q.data<R>()[i] *= R(1e6);
    });
    RunAttention(t.ctx, p, {4, 1});
    for (const Tensor& x : {p.out, p.lse, p.dq, p.dk, p.dv}) CHECK(AllFinite(x));
    for (std::int64_t i = 0; i < p.out.size(); ++i) CHECK(std::fabs(ValueAt(p.out, i)) <= 1 + 1e-6);  // a mean of v
  }
}

TEST_CASE("attention takes step memory in proportion to T, never to T squared (P7)") {
  constexpr int kThreads = 2, kD = 32;
  const auto scratch = [&](int T, AttentionSpec spec) {
    TestContext t(kThreads);
    AttentionPass p = MakePass(t.arena, DType::kF32, {T}, {2, 1, kD});
    const std::size_t before = t.arena.high_water_bytes();
    RunAttention(t.ctx, p, spec);
    return t.arena.high_water_bytes() - before;
  };
  // In the backward, for each thread: the gradients of keys and values, and what says where up to T blocks of queries
  // begin; for each visible key, scores of 32 queries and their gradients, one of them packed, and the key in tiles
  // both ways and the value one way; and a block of 32 queries a few times over.
  const auto bound = [](std::size_t tokens, std::size_t visible) {
    const std::size_t rows = sizeof(float) * kD;
    return kThreads * (tokens * (2 * rows + 40) + visible * (3 * 32 * sizeof(float) + 3 * rows) + 10 * 32 * rows);
  };
  CHECK(scratch(2000, {16, 4}) <= bound(2016, 4 * kKeyTile));  // 20 keys of each of 16 queries touch 4 tiles at most
  CHECK(scratch(2000, {}) <= bound(2016, 2016));
  CHECK(scratch(8000, {}) <= 4 * scratch(2000, {}));
}
