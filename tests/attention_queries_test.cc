// SPDX-License-Identifier: Apache-2.0
// Which queries attention is given. What it computes of them: attention_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "attn/attention.h"
#include "tensors.h"

using namespace swarr;

namespace {

// One document of N rows, and memory for its results.
struct Document {
  Tensor q, k, v, dout, q_pos, documents, out, lse, dq, dk, dv;

  Document(Arena& arena, DType dtype, const std::vector<std::int32_t>& positions, std::int64_t H, std::int64_t G,
           std::int64_t D) {
    const auto N = static_cast<std::int64_t>(positions.size());
    q = Random(arena, dtype, {N, H, D}, 1, 2), dout = Random(arena, dtype, {N, H, D}, 4);
    k = Random(arena, dtype, {N, G, D}, 2, 2), v = Random(arena, dtype, {N, G, D}, 3);
    q_pos = Ints(arena, positions), documents = Ints(arena, {0, static_cast<std::int32_t>(N)});
    out = arena.NewZero(dtype, {N, H, D}), lse = arena.NewZero(AccumulatorOf(dtype), {N, H});
    dq = arena.NewZero(dtype, {N, H, D});
    dk = arena.NewZero(dtype, {N, G, D}), dv = arena.NewZero(dtype, {N, G, D});
  }

  void Run(const Context& ctx, AttentionSpec spec) const {
    AttentionForward(ctx, out, lse, {q, k, v, q_pos, documents, spec});
    for (const Tensor& t : {dq, dk, dv}) FillZero(t);
    AttentionBackward(ctx, {dq, dk, dv}, dout, out, lse, {q, k, v, q_pos, documents, spec});
  }
};

}  // namespace

TEST_CASE("queries may come in any order and several at one position: each has the bits that it has alone (P8)") {
  const std::vector<std::int32_t> positions = {0, 0, 1, 1, 1,  2,  40, 40, 3,  4, 5, 5, 6, 39, 38, 37, 36, 7,  7,  8, 9,
                                               9, 9, 9, 9, 33, 34, 34, 35, 36, 0, 1, 2, 3, 3,  31, 32, 33, 33, 34, 0};
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 1}, {20, 4}}) {
      INFO(Name(dtype) << " W=" << spec.window << " S=" << spec.sinks);
      TestContext t;
      const Document together(t.arena, dtype, positions, 4, 2, 5);
      together.Run(t.ctx, spec);
      const Document alone(t.arena, dtype, positions, 4, 2, 5);
      for (std::size_t i = 0; i < positions.size(); ++i) {
        std::fill_n(alone.q_pos.data<std::int32_t>(), positions.size(), -1);  // the others see nothing
        alone.q_pos.data<std::int32_t>()[i] = positions[i];
        alone.Run(t.ctx, spec);
        const auto n = static_cast<std::int64_t>(i);
        CHECK(SameBits(together.out.Rows(n, n + 1), alone.out.Rows(n, n + 1)));
        CHECK(SameBits(together.lse.Rows(n, n + 1), alone.lse.Rows(n, n + 1)));
        CHECK(SameBits(together.dq.Rows(n, n + 1), alone.dq.Rows(n, n + 1)));
      }
    }
  }
}

TEST_CASE("documents may be empty, and there may be none") {
  const AttentionSpec spec = {3, 1};
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    TestContext t(2);
    Document nothing(t.arena, dtype, {}, 4, 2, 5);
    CHECK_NOTHROW(nothing.Run(t.ctx, spec));
    nothing.documents = Ints(t.arena, {0});
    CHECK_NOTHROW(nothing.Run(t.ctx, spec));

    const Document one(t.arena, dtype, {0, 1, 2}, 4, 2, 5);
    Document among_empty(t.arena, dtype, {0, 1, 2}, 4, 2, 5);
    among_empty.documents = Ints(t.arena, {0, 0, 3, 3});
    one.Run(t.ctx, spec);
    among_empty.Run(t.ctx, spec);
    CHECK(SameBits(one.out, among_empty.out));
    CHECK(SameBits(one.lse, among_empty.lse));
    CHECK(SameBits(one.dq, among_empty.dq));
    CHECK(SameBits(one.dk, among_empty.dk));
    CHECK(SameBits(one.dv, among_empty.dv));
  }
}
