// SPDX-License-Identifier: Apache-2.0
// What attention refuses.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "attn/attention.h"
#include "tensors.h"

using namespace swarr;

namespace {

// One document of three tokens, with two key heads of four numbers.
struct ShortPass {
  Tensor out, lse, q, k, v, q_pos, documents;
};

ShortPass MakeShortPass(Arena& arena, std::int64_t H) {
  const auto heads = [&](std::int64_t count, std::uint32_t stream) {
    return Random(arena, DType::kF32, {3, count, 4}, stream);
  };
  return {.out = heads(H, 1),
          .lse = arena.New(DType::kF32, {3, H}),
          .q = heads(H, 1),
          .k = heads(2, 2),
          .v = heads(2, 3),
          .q_pos = Ints(arena, {0, 1, 2}),
          .documents = Ints(arena, {0, 3})};
}

void RunForward(const Context& ctx, const ShortPass& p) {
  AttentionForward(ctx, p.out, p.lse, {p.q, p.k, p.v, p.q_pos, p.documents, {}});
}

}  // namespace

TEST_CASE("heads that don't divide, documents that don't cover the rows and a cache of another dtype are refused") {
  TestContext t;
  CHECK_THROWS_AS(RunForward(t.ctx, MakeShortPass(t.arena, /*H=*/3)), Error);
  const ShortPass p = MakeShortPass(t.arena, /*H=*/2);
  CHECK_NOTHROW(RunForward(t.ctx, p));
  for (const std::vector<std::int32_t>& documents : {std::vector<std::int32_t>{0, 2}, {1, 3}, {0, 4}, {3}}) {
    CHECK_THROWS_WITH_AS(CheckDocuments(Ints(t.arena, documents), p.q_pos),
                         "attention documents must begin at row 0 and end at row 3", Error);
  }
  const Tensor slots = Ints(t.arena, {0, 0, 0});
  const KeyCache other(DType::kF64, 1, 2, 4, {}, 3, 3), odd(DType::kF32, 1, 3, 4, {}, 3, 3);
  CHECK_THROWS_AS(StoreKeys(t.ctx, other, p.k, p.v, p.q_pos, slots), Error);
  CHECK_THROWS_AS(StoreKeys(t.ctx, odd, p.k, p.v, p.q_pos, slots), Error);
  CHECK_THROWS_WITH_AS(CachedAttentionForward(t.ctx, p.out, p.lse, {p.q, other, p.q_pos, slots, {}}),
                       "queries of f32 over a cache of f64", Error);
  CHECK_THROWS_AS(CachedAttentionForward(t.ctx, p.out, p.lse, {p.q, odd, p.q_pos, slots, {}}), Error);
}

TEST_CASE("learned sinks that are not one a query head, and a gradient where there are none, are refused") {
  TestContext t;
  const ShortPass p = MakeShortPass(t.arena, /*H=*/2);
  const AttentionInputs without{p.q, p.k, p.v, p.q_pos, p.documents, {}};
  AttentionInputs inputs = without;
  const auto forward = [&] { AttentionForward(t.ctx, p.out, p.lse, inputs); };
  inputs.sink_logits = Random(t.arena, DType::kF32, {3}, 4);
  CHECK_THROWS_WITH_AS(
      forward(), "the tensor of learned sinks, one a query head, has shape [3] f32 where [2] f32 is needed", Error);
  const Tensor slots = Ints(t.arena, {0, 0, 0});
  const KeyCache cache(DType::kF32, 1, 2, 4, {}, 3, 3);
  CHECK_THROWS_AS(CachedAttentionForward(t.ctx, p.out, p.lse, {p.q, cache, p.q_pos, slots, {}, inputs.sink_logits}),
                  Error);
  inputs.sink_logits = Random(t.arena, DType::kF64, {2}, 4);
  CHECK_THROWS_AS(forward(), Error);
  inputs.sink_logits = Random(t.arena, DType::kF32, {2}, 4);
  CHECK_NOTHROW(forward());
  const Tensor dsink = t.arena.NewZero(DType::kF32, {2}), short_dsink = t.arena.NewZero(DType::kF32, {1});
  const auto backward = [&](const Tensor& to, const AttentionInputs& in) {
    AttentionBackward(t.ctx, {{}, {}, {}, to}, p.q, p.out, p.lse, in);
  };
  CHECK_NOTHROW(backward(dsink, inputs));
  CHECK_THROWS_AS(backward(short_dsink, inputs), Error);
  CHECK_THROWS_WITH_AS(backward(dsink, without), "a gradient of learned sinks is wanted, but attention has none",
                       Error);
}

TEST_CASE("a rope table of other heads, and gradients to be turned back that are to be added to others, are refused") {
  TestContext t;
  const ShortPass p = MakeShortPass(t.arena, /*H=*/2);
  const AttentionInputs in{p.q, p.k, p.v, p.q_pos, p.documents, {}};
  AttentionForward(t.ctx, p.out, p.lse, in);
  const Tensor dq = t.arena.NewLike(p.q), dk = t.arena.NewLike(p.k), table = t.arena.NewZero(DType::kF32, {3, 4});
  const auto backward = [&](const Tensor& to_q, const Tensor& to_k, const Tensor& rope_table) {
    AttentionBackward(t.ctx, {to_q, to_k, {}, {}, rope_table}, p.q, p.out, p.lse, in);
  };
  CHECK_NOTHROW(backward(dq.Fresh(), dk.Fresh(), table));
  CHECK_NOTHROW(backward(dq.Fresh(), {}, table));
  CHECK_THROWS_AS(backward(dq.Fresh(), dk.Fresh(), t.arena.NewZero(DType::kF32, {3, 2})), Error);
  CHECK_THROWS_WITH_AS(backward(dq, dk.Fresh(), table),
                       "gradients of queries and keys that are turned back can't be added to others", Error);
}

TEST_CASE("documents that descend, and positions and slots that are not there, are refused") {
  TestContext t;
  const Tensor documents = Ints(t.arena, {0, 1, 3}), too_late = Ints(t.arena, {1, 0, 1});
  CHECK_NOTHROW(CheckDocuments(documents, Ints(t.arena, {0, 0, 1})));
  CHECK_THROWS_WITH_AS(CheckDocuments(documents, Ints(t.arena, {0, 0, 2})),
                       "attention position 2 is outside a document of 2 tokens", Error);
  CHECK_THROWS_WITH_AS(CheckDocuments(documents, too_late), "attention position 1 is outside a document of 1 tokens",
                       Error);
  CHECK_THROWS_WITH_AS(CheckDocuments(Ints(t.arena, {0, 2, 1, 3}), too_late),
                       "attention documents must ascend; document 1 ends before it begins", Error);
  const Tensor slots = Ints(t.arena, {0, 0, 1}), positions = Ints(t.arena, {0, 1, 0});
  CHECK_NOTHROW(CheckSlots(slots, positions, 2));
  CHECK_THROWS_WITH_AS(CheckSlots(slots, Ints(t.arena, {0, 1, -1}), 2), "a key can't be stored at position -1", Error);
  for (int slot : {-1, 2}) {
    const std::string sentence = "slot " + std::to_string(slot) + " is outside a cache of 2";
    for (const std::vector<std::int32_t>& those : {std::vector<std::int32_t>{0, 0, slot}, {slot, 0, 0}}) {
      CHECK_THROWS_WITH_AS(CheckSlots(Ints(t.arena, those), positions, 2), sentence.c_str(), Error);
    }
  }
}
