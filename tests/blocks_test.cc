// SPDX-License-Identifier: Apache-2.0
// The halves of a transformer's block as one op each, beside the ops that they stand for, on every device.
#include "autograd/blocks.h"

#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "autograd/gradient_check.h"
#include "tensor/rope_table.h"
#include "tensors.h"

using namespace swarr;

namespace {

constexpr std::int64_t kRows = 300, kWidth = 512, kUnits = 264, kQueryHeads = 4, kKeyHeads = 2, kHeadDim = 16;
constexpr double kEps = 1e-6;

enum class Options { kNone, kAll };  // biases, norms of queries and keys, learned sinks

// Values and gradients of a computation, on the host.
using Results = std::vector<Tensor>;

// Makes the inputs of a computation on a device, and reads its results.
struct BlockRun {
  BlockRun(Device device, DType of) : t(device), dtype(of) {}
  Var Parameter(std::initializer_list<std::int64_t> shape) {
    const Tensor value = Random(t.ctx.HostArena(), dtype, shape, ++streams, 0.2);
    parameters.push_back({ToDevice(t.ctx, value), ZeroLike(t.ctx, AccumulatorOf(dtype), value)});
    return parameters.back();
  }
  // x + 0, so that what follows is not the first op: x of a later block is a result.
  Var Input() {
    const Tensor x = Random(t.ctx.HostArena(), dtype, {kRows, kWidth}, ++streams);
    leaf = {ToDevice(t.ctx, x), ZeroLike(t.ctx, dtype, x)};
    return Add(t.ctx, leaf, {ZeroLike(t.ctx, dtype, x), {}});
  }
  Results Backward(Tape& tape, const Var& y) {
    Copy(t.ctx, y.ClaimGrad(), ToDevice(t.ctx, Random(t.ctx.HostArena(), dtype, {kRows, kWidth}, ++streams)));
    tape.Backward(t.ctx);
    Results results{OnHost(t.ctx, y.value), OnHost(t.ctx, leaf.grad)};
    for (const Var& p : parameters) results.push_back(OnHost(t.ctx, p.grad));
    return results;
  }

  TestContext t;
  DType dtype;
  std::uint32_t streams = 0;
  std::vector<Var> parameters;
  Var leaf;
};

AttentionWeights MakeAttention(BlockRun& b, Options options) {
  const std::int64_t q = kQueryHeads * kHeadDim, kv = kKeyHeads * kHeadDim;
  AttentionWeights w{.norm = b.Parameter({kWidth}),
                     .q = b.Parameter({q, kWidth}),
                     .k = b.Parameter({kv, kWidth}),
                     .v = b.Parameter({kv, kWidth}),
                     .q_bias = {},
                     .k_bias = {},
                     .v_bias = {},
                     .q_norm = {},
                     .k_norm = {},
                     .sinks = {},
                     .o = b.Parameter({kWidth, q})};
  if (options == Options::kNone) return w;
  w.q_bias = b.Parameter({q});
  w.k_bias = b.Parameter({kv});
  w.v_bias = b.Parameter({kv});
  w.q_norm = b.Parameter({kHeadDim});
  w.k_norm = b.Parameter({kHeadDim});
  w.sinks = b.Parameter({kQueryHeads});
  return w;
}
FeedForwardWeights MakeFeedForward(BlockRun& b) {
  return {b.Parameter({kWidth}), b.Parameter({kUnits, kWidth}), b.Parameter({kUnits, kWidth}),
          b.Parameter({kWidth, kUnits})};
}

Var FeedForwardOfOps(Context& ctx, const Var& x, const FeedForwardWeights& w) {
  const Var m = RmsNorm(ctx, x, w.norm, kEps);
  const Var up = Linear(ctx, m, w.up), gate = Linear(ctx, m, w.gate);
  return Linear(ctx, SwiGlu(ctx, gate, up), w.down, {}, x);
}

Var SelfAttentionOfOps(Context& ctx, const Var& x, const AttentionWeights& w, const RowPositions& rows,
                       const AttentionDocuments& documents) {
  const Var m = RmsNorm(ctx, x, w.norm, kEps);
  Var q = Reshape(Linear(ctx, m, w.q, w.q_bias), {kRows, kQueryHeads, kHeadDim});
  Var k = Reshape(Linear(ctx, m, w.k, w.k_bias), {kRows, kKeyHeads, kHeadDim});
  const Var v = Reshape(Linear(ctx, m, w.v, w.v_bias), {kRows, kKeyHeads, kHeadDim});
  if (!w.q_norm.value.empty()) {
    q = RmsNorm(ctx, q, w.q_norm, kEps);
    k = RmsNorm(ctx, k, w.k_norm, kEps);
  }
  q = Rope(ctx, q, rows.positions, rows.table);
  k = Rope(ctx, k, rows.positions, rows.table);
  const Var attended = Attention(ctx, {q, k, v, w.sinks}, rows.positions, documents.documents, documents.spec);
  return Linear(ctx, Reshape(attended, {kRows, kQueryHeads * kHeadDim}), w.o, {}, x);
}

// Two documents, the second one shorter.
struct Rows {
  explicit Rows(BlockRun& b) {
    constexpr std::int32_t kFirst = 170;
    std::vector<std::int32_t> at;
    for (std::int32_t n = 0; n < kRows; ++n) at.push_back(n < kFirst ? n : n - kFirst);
    const Tensor table = b.t.ctx.HostArena().New(AccumulatorOf(b.dtype), {kFirst, kHeadDim});
    FillRopeTable(table, 10000, {});
    positions = {ToDevice(b.t.ctx, Ints(b.t.ctx.HostArena(), at)), ToDevice(b.t.ctx, table)};
    documents = {ToDevice(b.t.ctx, Ints(b.t.ctx.HostArena(), {0, kFirst, kRows})), {}, {.window = 50, .sinks = 0}};
  }
  RowPositions positions;
  AttentionDocuments documents;
};

// On a CUDA device gradients that meet at one input are added before they are rounded to bf16, once. Ops round them one
// by one: up to three roundings at an input, of 2^-9 each, and two blocks have 6 * 2^-9, below 2^-6. Norms and products
// between carry that on to the other gradients. They average errors of many elements rather than enlarge them, but the
// bound is a share of the largest element, so twice as much is allowed.
constexpr double kRoundedOnce = 0x1p-5;

// The first result is the value.
void CheckSameResults(const std::function<Results(BlockRun&, bool one_op)>& run) {
  for (const Device device : TestDevices()) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      CAPTURE(Name(device));
      CAPTURE(Name(dtype));
      BlockRun apart(device, dtype), one(device, dtype);
      const Results expected = run(apart, false), got = run(one, true);
      REQUIRE(expected.size() == got.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        if (i > 0 && device == Device::kCuda && dtype == DType::kBF16) {
          CHECK(RelativeError(got[i], expected[i]) <= kRoundedOnce);
        } else {
          CHECK(SameBits(expected[i], got[i]));
        }
        CHECK(ValueAt(got[i], 0) != 0);
      }
    }
  }
}

}  // namespace

TEST_CASE(
    "a feed-forward network as one op gives the values and gradients of its ops, bit for bit unless it rounds less") {
  CheckSameResults([](BlockRun& b, bool one_op) {
    const FeedForwardWeights first = MakeFeedForward(b), second = MakeFeedForward(b);
    Context& ctx = b.t.ctx;
    Tape tape;
    const TapeScope recording(ctx, &tape);
    const auto block = [&](const Var& x, const FeedForwardWeights& w) {
      return one_op ? FeedForward(ctx, x, w, kEps) : FeedForwardOfOps(ctx, x, w);
    };
    return b.Backward(tape, block(block(b.Input(), first), second));
  });
}

TEST_CASE("self-attention as one op gives the values and gradients of its ops, bit for bit unless it rounds less") {
  for (const Options options : {Options::kNone, Options::kAll}) {
    CheckSameResults([options](BlockRun& b, bool one_op) {
      const AttentionWeights first = MakeAttention(b, options), second = MakeAttention(b, options);
      const Rows rows(b);
      Context& ctx = b.t.ctx;
      Tape tape;
      const TapeScope recording(ctx, &tape);
      const auto block = [&](const Var& x, const AttentionWeights& w) {
        return one_op ? SelfAttention(ctx, x, w, rows.positions, rows.documents, kEps)
                      : SelfAttentionOfOps(ctx, x, w, rows.positions, rows.documents);
      };
      return b.Backward(tape, block(block(b.Input(), first), second));
    });
  }
}

TEST_CASE("a block's backward throws if its input was used again after it, since both share a gradient") {
  BlockRun b(Device::kCpu, DType::kF32);
  const FeedForwardWeights w = MakeFeedForward(b);
  Tape tape;
  const TapeScope recording(b.t.ctx, &tape);
  const Var x = b.Input();
  const Var y = FeedForward(b.t.ctx, x, w, kEps);
  CHECK_THROWS_WITH_AS(b.Backward(tape, Add(b.t.ctx, x, y)),
                       "a value was used again after the block that continues its gradient", Error);
}

TEST_CASE("a block keeps values for its backward and no gradient of its own") {
  constexpr std::int64_t kKept = 2 * kUnits + kWidth;  // gate, up and the result
  BlockRun b(Device::kCpu, DType::kF32);
  const FeedForwardWeights w = MakeFeedForward(b);
  Tape tape;
  const TapeScope recording(b.t.ctx, &tape);
  const Var x = b.Input();
  const Arena::Mark before = b.t.arena.GetMark();
  FeedForward(b.t.ctx, x, w, kEps);
  const Arena::Mark after = b.t.arena.GetMark();
  const std::size_t slack = kRows * sizeof(float) + 32 * kAlignment;  // the inverse rms of rows; the closure
  CHECK(after.before + after.used - before.before - before.used <= kRows * kKept * sizeof(float) + slack);
}
