// SPDX-License-Identifier: Apache-2.0
#include "attn/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "autograd/gradient_check.h"
#include "tensors.h"

using namespace swarr;

namespace {

struct Heads {
  std::int64_t H, G, D;
};
constexpr Heads kHeads[] = {{3, 3, 5}, {4, 2, 3}, {7, 1, 17}};  // 1, 2 and 7 query heads for a key head

// Documents packed one after another, forward and backward.
struct Pass {
  Tensor q, k, v, dout;  // [N, H, D], [N, G, D], as dout = q
  Tensor q_pos, key_base, documents;
  Tensor out, lse, dq, dk, dv;
};

void Run(const Context& ctx, Pass& p, AttentionSpec spec) {
  const KeyLayout layout{p.q_pos, p.key_base};
  AttentionForward(ctx, p.out, p.lse, p.q, p.k, p.v, layout, spec);
  for (const Tensor& t : {p.dq, p.dk, p.dv}) FillZero(t);
  AttentionBackward(ctx, p.dq, p.dk, p.dv, p.dout, p.out, p.lse, p.q, p.k, p.v, layout, p.documents, spec);
}

// A pass over `lengths` with memory for its results. q, k, v and dout are given or random.
Pass MakePass(Arena& arena, DType dtype, const std::vector<int>& lengths, Heads h, const Pass* inputs = nullptr) {
  std::vector<std::int32_t> position, base, first = {0};
  for (int length : lengths) {
    for (int t = 0; t < length; ++t) position.push_back(t);
    base.insert(base.end(), static_cast<std::size_t>(length), first.back());
    first.push_back(first.back() + length);
  }
  const std::int64_t N = first.back();
  Pass p;
  if (inputs) {
    p = *inputs;
  } else {
    p.q = Random(arena, dtype, {N, h.H, h.D}, 1, 2);
    p.k = Random(arena, dtype, {N, h.G, h.D}, 2, 2);
    p.v = Random(arena, dtype, {N, h.G, h.D}, 3);
    p.dout = Random(arena, dtype, {N, h.H, h.D}, 4);
  }
  p.q_pos = Ints(arena, position);
  p.key_base = Ints(arena, base);
  p.documents = Ints(arena, first);
  p.out = arena.New(dtype, {N, h.H, h.D});
  p.lse = arena.New(dtype, {N, h.H});
  p.dq = arena.New(dtype, {N, h.H, h.D});
  p.dk = arena.New(dtype, {N, h.G, h.D});
  p.dv = arena.New(dtype, {N, h.G, h.D});
  return p;
}

Pass RunPass(const Context& ctx, DType dtype, const std::vector<int>& lengths, Heads h, AttentionSpec spec) {
  Pass p = MakePass(*ctx.arena, dtype, lengths, h);
  Run(ctx, p, spec);
  return p;
}

void CheckSameResults(const Pass& a, const Pass& b) {
  CHECK(SameBits(a.out, b.out));
  CHECK(SameBits(a.lse, b.lse));
  CHECK(SameBits(a.dq, b.dq));
  CHECK(SameBits(a.dk, b.dk));
  CHECK(SameBits(a.dv, b.dv));
}

bool AllFinite(const Tensor& t) {
  for (std::int64_t i = 0; i < t.size(); ++i) {
    if (!std::isfinite(ValueAt(t, i))) return false;
  }
  return true;
}

std::vector<AttentionSpec> SpecsFor(int T) {
  std::vector<AttentionSpec> specs;
  for (int window : {0, 1, 2, 3, 7, T, T + 5}) {
    for (int sinks : {0, 1, 4}) specs.push_back({window, sinks});
  }
  return specs;
}

// out of the kernel under `kernel`, against the definition under `definition`.
double ErrorAgainst(AttentionSpec kernel, AttentionSpec definition, int T, Heads h, DType dtype) {
  TestContext t;
  const Pass p = RunPass(t.ctx, dtype, {T}, h, kernel);
  const Tensor out = t.arena.New(dtype, {T, h.H, h.D}), lse = t.arena.New(dtype, {T, h.H});
  AttentionReference(out, lse, p.q, p.k, p.v, definition);
  return std::max(RelativeError(p.out, out), RelativeError(p.lse, lse));
}

}  // namespace

TEST_CASE("attention agrees with its O(T^2) definition for every window, sink and head grouping") {
  for (DType dtype : {DType::kF64, DType::kF32}) {
    // A score is a sum of at most 17 products and below 20 in magnitude here; its rounding, 17 units of 20, becomes the
    // relative error of a weight. Two such computations are compared, and up to 23 keys are summed: 4 * 17 * 20 units
    // of 2^-53 or 2^-24 bound it, and are far below what one key more or less changes (the test after the next).
    const double bound = 4 * 17 * 20 * (dtype == DType::kF64 ? 0x1p-53 : 0x1p-24);
    for (int T : {1, 2, 5, 23}) {
      for (AttentionSpec spec : SpecsFor(T)) {
        for (const Heads& h : kHeads) {
          INFO("T=" << T << " W=" << spec.window << " S=" << spec.sinks << " H=" << h.H << " G=" << h.G);
          CHECK(ErrorAgainst(spec, spec, T, h, dtype) <= bound);
        }
      }
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
  const int T = 23;
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (const Heads& h : kHeads) {
      TestContext t;
      const Pass full = RunPass(t.ctx, dtype, {T}, h, {0, 0});
      for (AttentionSpec spec : {AttentionSpec{T, 0}, {T, 1}, {T, 4}, {T + 5, 0}, {T + 5, 4}, {0, 4}, {1, T}}) {
        INFO("W=" << spec.window << " S=" << spec.sinks);
        CheckSameResults(RunPass(t.ctx, dtype, {T}, h, spec), full);
      }
      CHECK(!SameBits(RunPass(t.ctx, dtype, {T}, h, {T - 1, 0}).out, full.out));
    }
  }
}

TEST_CASE("documents packed in one row have the bits of the same documents alone, forward and backward (P8)") {
  const std::vector<int> lengths = {5, 1, 12, 3, 9};
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 0}, {3, 4}, {7, 1}, {40, 0}}) {
      for (const Heads& h : kHeads) {
        TestContext t;
        const Pass packed = RunPass(t.ctx, dtype, lengths, h, spec);
        std::int64_t begin = 0;
        for (int length : lengths) {
          INFO("document of " << length << " tokens at row " << begin << ", W=" << spec.window << " S=" << spec.sinks);
          const auto rows = [&](const Tensor& x) { return x.Rows(begin, begin + length); };
          Pass inputs;
          inputs.q = rows(packed.q), inputs.dout = rows(packed.dout);
          inputs.k = rows(packed.k), inputs.v = rows(packed.v);
          Pass alone = MakePass(t.arena, dtype, {length}, h, &inputs);
          Run(t.ctx, alone, spec);
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
void CheckRingDecode(DType dtype, AttentionSpec spec, int T, int chunk, Heads h) {
  INFO("W=" << spec.window << " S=" << spec.sinks << " chunk=" << chunk << " H=" << h.H << " G=" << h.G);
  TestContext t;
  const std::vector<int> lengths = {T, T};
  const Pass full = RunPass(t.ctx, dtype, lengths, h, spec);
  const int rows = CacheRows(spec, T, chunk), sinks = spec.window == 0 ? 0 : spec.sinks;
  const int ring = std::max(1, rows - sinks);
  if (spec.window != 0) CHECK(rows <= spec.window + spec.sinks + chunk - 1);  // O(W), whatever T (P7)
  const Tensor k = t.arena.New(dtype, {2 * rows, h.G, h.D}), v = t.arena.New(dtype, {2 * rows, h.G, h.D});
  Dispatch(dtype, [&]<class R>() {
    for (const Tensor& x : {k, v}) std::fill_n(x.data<R>(), x.size(), std::numeric_limits<R>::max());
  });
  for (int begin = 0; begin < T; begin += chunk) {
    const int count = std::min(chunk, T - begin);
    const Tensor q = t.arena.New(dtype, {2 * count, h.H, h.D});
    std::vector<std::int32_t> q_pos, key_base;
    for (int document : {0, 1}) {
      const int first = document * T + begin;
      Copy(q.Rows(document * count, (document + 1) * count), full.q.Rows(first, first + count));
      for (int i = 0; i < count; ++i) {
        const int row = document * rows + CacheRow(begin + i, sinks, ring);
        Copy(k.Rows(row, row + 1), full.k.Rows(first + i, first + i + 1));
        Copy(v.Rows(row, row + 1), full.v.Rows(first + i, first + i + 1));
        q_pos.push_back(begin + i);
        key_base.push_back(document * rows);
      }
    }
    const Tensor out = t.arena.New(dtype, {2 * count, h.H, h.D}), lse = t.arena.New(dtype, {2 * count, h.H});
    AttentionForward(t.ctx, out, lse, q, k, v, {Ints(t.arena, q_pos), Ints(t.arena, key_base), ring}, spec);
    for (int document : {0, 1}) {
      const int first = document * T + begin;
      CHECK(SameBits(out.Rows(document * count, (document + 1) * count), full.out.Rows(first, first + count)));
      CHECK(SameBits(lse.Rows(document * count, (document + 1) * count), full.lse.Rows(first, first + count)));
    }
  }
}

}  // namespace

TEST_CASE("attention over a ring cache with garbage in unused rows has the bits of attention without one (P7, P8)") {
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (int window : {0, 1, 2, 3, 7, 40}) {
      for (int sinks : {0, 1, 4}) {
        const int T = window == 7 ? 26 : 17;  // more than three windows (but for W = 40: the cache is never full)
        for (int chunk : {1, 2, 5}) CheckRingDecode(dtype, {window, sinks}, T, chunk, kHeads[1]);
      }
    }
    CheckRingDecode(dtype, {3, 1}, 17, 3, kHeads[2]);
    CheckRingDecode(dtype, {3, 20}, 17, 1, kHeads[0]);  // more sinks than tokens
  }
}

TEST_CASE("a row that sees nothing has out 0, lse -infinity and gradient 0, and others do not notice (P5)") {
  const std::vector<int> blind = {0, 4, 8};
  for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 4}}) {
    for (const Heads& h : kHeads) {
      TestContext t;
      Pass p = MakePass(t.arena, DType::kF32, {5, 4}, h);
      for (int n : blind) {
        p.q_pos.data<std::int32_t>()[n] = -1;
        std::fill_n(p.q.data<float>() + n * h.H * h.D, h.H * h.D, 1e30F);
      }
      Run(t.ctx, p, spec);
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
      Pass silent = p;
      silent.dq = CopyOf(t.arena, p.dq), silent.dk = CopyOf(t.arena, p.dk), silent.dv = CopyOf(t.arena, p.dv);
      silent.dout = CopyOf(t.arena, p.dout);
      for (int n : blind) FillZero(silent.dout.Rows(n, n + 1));
      Run(t.ctx, silent, spec);
      CheckSameResults(silent, p);
      const Pass sighted = RunPass(t.ctx, DType::kF32, {5, 4}, h, spec);
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
    Pass p = MakePass(t.arena, dtype, {9}, kHeads[1]);
    Dispatch(dtype, [&]<class R>() {
      for (std::int64_t i = 0; i < p.q.size(); ++i) p.q.data<R>()[i] *= R(1e6);
    });
    Run(t.ctx, p, {4, 1});
    for (const Tensor& x : {p.out, p.lse, p.dq, p.dk, p.dv}) CHECK(AllFinite(x));
    for (std::int64_t i = 0; i < p.out.size(); ++i) CHECK(std::fabs(ValueAt(p.out, i)) <= 1 + 1e-6);  // a mean of v
  }
}

TEST_CASE("attention takes step memory in proportion to T, never to T squared (P7)") {
  const auto scratch = [](int T, AttentionSpec spec) {
    TestContext t(2);
    Pass p = MakePass(t.arena, DType::kF32, {T}, {2, 1, 4});
    const std::size_t before = t.arena.high_water_bytes();
    Run(t.ctx, p, spec);
    return t.arena.high_water_bytes() - before;
  };
  // Keys and values transposed (head dim 4, and room to read one vector past the end of each of the 4 rows), and the
  // scores of one query for each of two threads, twice in the backward.
  const auto bound = [](int T, int visible) {
    return static_cast<std::size_t>(2 * 4 * (T + 16) + 4 * (visible + 16)) * sizeof(float) + 8 * kAlignment;
  };
  CHECK(scratch(2000, {16, 4}) <= bound(2000, 20));
  CHECK(scratch(2000, {}) <= bound(2000, 2000));
}

TEST_CASE("heads that don't divide, and a backward through a cache, are refused") {
  TestContext t;
  Pass p = MakePass(t.arena, DType::kF32, {3}, {3, 2, 4});
  CHECK_THROWS_AS(Run(t.ctx, p, {0, 0}), Error);
  p = MakePass(t.arena, DType::kF32, {3}, {2, 2, 4});
  Run(t.ctx, p, {0, 0});
  CHECK_THROWS_WITH_AS(AttentionBackward(t.ctx, p.dq, p.dk, p.dv, p.dout, p.out, p.lse, p.q, p.k, p.v,
                                         {p.q_pos, p.key_base, 4}, p.documents, {0, 0}),
                       "attention has no backward through a cache; train on whole documents", Error);
}
