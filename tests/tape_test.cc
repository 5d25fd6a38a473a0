// SPDX-License-Identifier: Apache-2.0
#include "autograd/tape.h"

#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "autograd/ops.h"
#include "tensors.h"

using namespace swarr;

namespace {

constexpr std::int64_t kRows = 70, kWidth = 33;

Var RandomVar(Arena& arena, std::initializer_list<std::int64_t> shape, std::uint32_t stream) {
  return {Random(arena, DType::kF32, shape, stream), arena.NewZero(DType::kF32, shape)};
}

// A residual block with two weights that every block shares, so that their gradients sum over blocks.
struct Block {
  Var norm, w;
  Var operator()(Context& ctx, const Var& x) const {
    const Var h = RmsNorm(ctx, x, norm, 1e-6);
    return Add(ctx, x, SwiGlu(ctx, Linear(ctx, h, w), h));
  }
};
Block MakeBlock(Arena& arena) { return {RandomVar(arena, {kWidth}, 1), RandomVar(arena, {kWidth, kWidth}, 2)}; }

enum class Keep { kAll, kBlocks, kNothing };  // plain, each block checkpointed, checkpoints within a checkpoint

struct Gradients {
  Tensor y, x, norm, w;
  std::size_t recorded_bytes;  // step memory in use between forward and backward
};

// Three blocks, then a backward.
Gradients RunBlocks(TestContext& t, Keep keep) {
  const Block block = MakeBlock(t.arena);
  const Var x = RandomVar(t.arena, {kRows, kWidth}, 3);
  Context& ctx = t.ctx;
  Tape tape;
  const TapeScope recording(ctx, &tape);
  const auto two = [block](Context& c, const Var& in) { return Checkpoint(c, Checkpoint(c, in, block), block); };
  const Arena::Mark before = t.arena.GetMark();
  Var y;
  switch (keep) {
    case Keep::kAll:
      y = block(ctx, block(ctx, block(ctx, x)));
      break;
    case Keep::kBlocks:
      y = Checkpoint(ctx, Checkpoint(ctx, Checkpoint(ctx, x, block), block), block);
      break;
    case Keep::kNothing:
      y = Checkpoint(ctx, Checkpoint(ctx, x, two), block);
      break;
  }
  const Arena::Mark after = t.arena.GetMark();
  const std::size_t used = after.before + after.used - before.before - before.used;
  Copy(y.ClaimGrad(), Random(t.arena, DType::kF32, {kRows, kWidth}, 4));
  tape.Backward(ctx);
  return {y.value, x.grad, block.norm.grad, block.w.grad, used};
}

}  // namespace

TEST_CASE("an op without a backward throws under a live tape (P1)") {
  TestContext t;
  Tape tape;
  const Tensor x = Random(t.arena, DType::kF32, {1, 2, 4}, 1), at = Ints(t.arena, {0});
  const KeyCache cache(DType::kF32, /*slots=*/1, /*G=*/2, /*D=*/4, {}, /*max_length=*/1, /*max_chunk=*/1);
  const std::vector<SampleRow> how(2, {1, 1.0});
  const Tensor rows = x.Reshape({2, 4}), logp = t.arena.New(DType::kF32, {2}), two = Ints(t.arena, {0, 1});
  const auto attend = [&] { CachedAttention(t.ctx, {x, cache, at, at, {0, 0}}); };
  const auto sample = [&] { SampleForward(t.ctx, Ints(t.arena, {0, 0}), logp, rows, rows, two, how.data()); };
  {
    const TapeScope recording(t.ctx, &tape);
    CHECK_THROWS_WITH_AS(attend(), "attention over a cache has no backward and can't be part of a recorded computation",
                         Error);
    CHECK_THROWS_WITH_AS(sample(), "sampling has no backward and can't be part of a recorded computation", Error);
  }
  CHECK_NOTHROW(attend());
  CHECK_NOTHROW(sample());
}

TEST_CASE("without a tape nothing is recorded and no gradient is made (P2)") {
  TestContext t;
  CHECK(NewVar(t.ctx, DType::kF32, {2}).grad.empty());
  const Block block = MakeBlock(t.arena);
  CHECK(Checkpoint(t.ctx, RandomVar(t.arena, {2, kWidth}, 3), block).grad.empty());
}

TEST_CASE("a scope's tape is the context's until the scope ends, an exception or not") {
  TestContext t;
  Tape outer, inner;
  const TapeScope recording(t.ctx, &outer);
  CHECK(t.ctx.tape == &outer);
  CHECK_THROWS_AS(
      [&] {
        const TapeScope nested(t.ctx, &inner);
        CHECK(t.ctx.tape == &inner);
        throw Error("an op refused its input");
      }(),
      Error);
  CHECK(t.ctx.tape == &outer);
}

TEST_CASE("a tape replays its closures last first, once, with recording off") {
  TestContext t;
  Tape tape;
  const TapeScope recording(t.ctx, &tape);
  std::vector<int> order;
  for (int i = 0; i < 5; ++i) {
    tape.Record(t.ctx, [i, &order](Context& c) { order.push_back(c.tape == nullptr ? i : -1); });
  }
  CHECK(tape.size() == 5);
  tape.Backward(t.ctx);
  CHECK(order == std::vector<int>{4, 3, 2, 1, 0});
  CHECK(tape.size() == 0);
  tape.Backward(t.ctx);
  CHECK(order.size() == 5);
}

TEST_CASE("a closure keeps what it captured, however large") {
  TestContext t;
  Tape tape;
  std::array<double, 100> captured{};
  captured[99] = 7;
  double seen = 0;
  double* to = &seen;
  tape.Record(t.ctx, [captured, to](Context&) { *to = captured[99]; });
  captured[99] = 0;
  Random(t.arena, DType::kF32, {1000}, 1);  // whatever is taken afterwards does not overwrite it
  tape.Backward(t.ctx);
  CHECK(seen == 7);
}

TEST_CASE("a value that is used twice gets the sum of both gradients") {
  TestContext t;
  Tape tape;
  const TapeScope recording(t.ctx, &tape);
  const Var x = RandomVar(t.arena, {2, 3}, 1);
  const Var twice = Add(t.ctx, x, x);
  const Var y = Add(t.ctx, twice, x);
  const Tensor dy = y.ClaimGrad();
  for (std::int64_t i = 0; i < 6; ++i) dy.data<float>()[i] = static_cast<float>(i);
  tape.Backward(t.ctx);
  for (std::int64_t i = 0; i < 6; ++i) CHECK(ValueAt(x.grad, i) == 3 * static_cast<double>(i));
}

TEST_CASE("checkpointed gradients are those of the plain computation, bit for bit (P3)") {
  for (int threads : {1, 2}) {
    TestContext t(threads);
    const Gradients plain = RunBlocks(t, Keep::kAll);
    for (Keep keep : {Keep::kBlocks, Keep::kNothing}) {
      const Gradients again = RunBlocks(t, keep);
      CHECK(SameBits(again.y, plain.y));
      CHECK(SameBits(again.x, plain.x));
      CHECK(SameBits(again.norm, plain.norm));
      CHECK(SameBits(again.w, plain.w));
    }
    CHECK(!SameBits(plain.w, t.arena.NewZero(DType::kF32, {kWidth, kWidth})));
  }
}

TEST_CASE("a checkpoint keeps a block's result and nothing else (P3)") {
  TestContext t;
  const std::size_t result = kRows * kWidth * sizeof(float), slack = 16 * kAlignment;  // a closure, rounding up
  const std::size_t blocks = RunBlocks(t, Keep::kBlocks).recorded_bytes;
  const std::size_t nested = RunBlocks(t, Keep::kNothing).recorded_bytes;
  CHECK(blocks <= 3 * (2 * result + slack));  // value and gradient of three results
  CHECK(nested <= 2 * (2 * result + slack));
  CHECK(RunBlocks(t, Keep::kAll).recorded_bytes > 2 * blocks);
}
