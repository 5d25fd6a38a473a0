// SPDX-License-Identifier: Apache-2.0
// Attention with learned sinks. Over a cache: attention_test.cc; on a CUDA device: cuda_attention_test.cc.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "attention_pass.h"
#include "autograd/gradient_check.h"
#include "plain/attention.h"

using namespace swarr;

namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16};

// All results of the definition, in f64, from what went into `p`.
AttentionPass Defined(Arena& arena, const AttentionPass& p, AttentionSpec spec) {
  AttentionPass exact;
  for (const auto& [to, from] : {std::pair{&exact.q, p.q},
                                 {&exact.k, p.k},
                                 {&exact.v, p.v},
                                 {&exact.dout, p.dout},
                                 {&exact.sink_logits, p.sink_logits}}) {
    *to = InF64(arena, from);
  }
  for (const auto& [to, like] : {std::pair{&exact.out, p.out},
                                 {&exact.lse, p.lse},
                                 {&exact.dq, p.dq},
                                 {&exact.dk, p.dk},
                                 {&exact.dv, p.dv},
                                 {&exact.dsink_logits, p.dsink_logits}}) {
    *to = ZeroLike(arena, DType::kF64, like);
  }
  const plain::AttentionInputs inputs{exact.q, exact.k, exact.v, plain::WithinDocuments(p.documents, p.q_pos, spec),
                                      exact.sink_logits};
  plain::AttentionForward(exact.out, exact.lse, inputs);
  plain::AttentionBackward({exact.dq, exact.dk, exact.dv, exact.dsink_logits}, exact.dout, exact.out, exact.lse,
                           inputs);
  return exact;
}

double LargestError(const AttentionPass& p, const AttentionPass& exact) {
  return std::max({RelativeError(p.out, exact.out), RelativeError(p.lse, exact.lse), RelativeError(p.dq, exact.dq),
                   RelativeError(p.dk, exact.dk), RelativeError(p.dv, exact.dv),
                   RelativeError(p.dsink_logits, exact.dsink_logits)});
}

// dsink_h = -sum_n exp(sink_h - lse) (dout . out) of the pass's own results. Sums of 9 and of at most 17 terms, and an
// exponent of less than 30, whose rounding becomes the weight's: less than 64 units of the magnitudes.
void CheckSinkGradient(const AttentionPass& p) {
  const std::int64_t N = p.out.dim(0), H = p.out.dim(1), D = p.out.dim(2);
  const double unit = p.lse.dtype() == DType::kF64 ? 0x1p-53 : 0x1p-24;
  for (std::int64_t h = 0; h < H; ++h) {
    double sum = 0, magnitude = 0;
    for (std::int64_t row = h; row < N * H; row += H) {
      const double weight = std::exp(ValueAt(p.sink_logits, h) - ValueAt(p.lse, row));
      for (std::int64_t i = row * D; i < (row + 1) * D; ++i) {
        const double term = weight * ValueAt(p.dout, i) * ValueAt(p.out, i);
        sum -= term, magnitude += std::fabs(term);
      }
    }
    CHECK(std::fabs(ValueAt(p.dsink_logits, h) - sum) <= 64 * unit * magnitude);
  }
}

}  // namespace

TEST_CASE("attention with learned sinks agrees with its O(T^2) definition, forward and backward, beside any window") {
  for (DType dtype : {DType::kF64, DType::kF32}) {
    // As in attention_test.cc; gradients take the weights' error twice, in p and in dout . out.
    const double bound = 2 * 4 * 17 * 20 * (dtype == DType::kF64 ? 0x1p-53 : 0x1p-24);
    for (Cpu cpu : SupportedCpus()) {
      TestContext t(2, cpu);
      const auto check = [&](const std::vector<int>& lengths, AttentionSpec spec, Heads h) {
        INFO(Name(cpu) << " T=" << lengths[0] << " W=" << spec.window << " S=" << spec.sinks << " H=" << h.H);
        const StepScope scope(t.ctx);
        const AttentionPass p = RunPass(t.ctx, dtype, lengths, h, spec, LearnedSinks::kWith);
        CHECK(LargestError(p, Defined(t.arena, p, spec)) <= bound);
      };
      for (int T : {1, 2, 5, 23}) {
        for (AttentionSpec spec : SpecsFor(T)) {
          for (const Heads& h : kHeads) check({T}, spec, h);
        }
      }
      for (AttentionSpec spec : {AttentionSpec{0, 0}, {3, 0}, {7, 1}, {20, 4}}) {
        check({75}, spec, kHeads[2]);
        check({5, 1, 40, 3, 33}, spec, kHeads[1]);
      }
      check({40}, {20, 4}, kManyHeads);
    }
  }
}

TEST_CASE("a learned sink that is dropped, or takes a key's place, is caught") {
  TestContext t;
  for (const Heads& h : kHeads) {
    const AttentionPass p = RunPass(t.ctx, DType::kF64, {23}, h, {7, 1}, LearnedSinks::kWith);
    AttentionPass dropped = p;
    dropped.sink_logits = CopyOf(t.arena, p.sink_logits);
    Fill(dropped.sink_logits, -HUGE_VAL);
    CHECK(RelativeError(p.out, Defined(t.arena, dropped, {7, 1}).out) > 0.01);
    CHECK(RelativeError(p.out, Defined(t.arena, p, {6, 1}).out) > 0.01);
  }
}

TEST_CASE("a row that sees no key has out 0 and its learned sink as lse, and gives the sink no gradient") {
  for (DType dtype : kDTypes) {
    for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 4}}) {
      for (const Heads& h : kHeads) {
        TestContext t;
        AttentionPass p = MakePass(t.arena, dtype, {5, 4}, h, LearnedSinks::kWith);
        const std::vector<std::int64_t> blind = {0, 4, 8};
        for (const std::int64_t n : blind) p.q_pos.data<std::int32_t>()[n] = -1;
        RunAttention(t.ctx, p, spec);
        for (const std::int64_t n : blind) {
          for (std::int64_t i = 0; i < h.H; ++i) CHECK(ValueAt(p.lse, n * h.H + i) == ValueAt(p.sink_logits, i));
          for (std::int64_t i = n * h.H * h.D; i < (n + 1) * h.H * h.D; ++i) {
            CHECK(ValueAt(p.out, i) == 0);
            CHECK(ValueAt(p.dq, i) == 0);
          }
        }
        CheckSinkGradient(p);
        AttentionPass silent = MakePass(t.arena, dtype, {5, 4}, h, LearnedSinks::kWith, &p);
        silent.q_pos = p.q_pos, silent.dout = CopyOf(t.arena, p.dout);
        for (const std::int64_t n : blind) FillZero(silent.dout.Rows(n, n + 1));
        RunAttention(t.ctx, silent, spec);
        CheckSameResults(silent, p);
        // With no other rows nothing is left.
        Fill(p.lse, 0);
        for (std::int64_t n = 0; n < 9; ++n) p.q_pos.data<std::int32_t>()[n] = -1;
        RunAttention(t.ctx, p, spec);
        for (std::int64_t i = 0; i < h.H; ++i) CHECK(ValueAt(p.dsink_logits, i) == 0);
      }
    }
  }
}

TEST_CASE("a learned sink far below all scores changes no bit, and one far above leaves nothing to the keys") {
  for (DType dtype : kDTypes) {
    TestContext t;
    const AttentionPass without = RunPass(t.ctx, dtype, {40, 7}, kHeads[1], {7, 1});
    AttentionPass p = MakePass(t.arena, dtype, {40, 7}, kHeads[1], LearnedSinks::kWith);
    Fill(p.sink_logits, -1e4);
    RunAttention(t.ctx, p, {7, 1});
    CHECK(SameBits(p.out, without.out));
    CHECK(SameBits(p.lse, without.lse));
    CHECK(SameBits(p.dq, without.dq));
    CHECK(SameBits(p.dk, without.dk));
    CHECK(SameBits(p.dv, without.dv));
    Fill(p.sink_logits, 1e4);
    RunAttention(t.ctx, p, {7, 1});
    for (std::int64_t i = 0; i < p.out.size(); ++i) CHECK(ValueAt(p.out, i) == 0);
    for (std::int64_t i = 0; i < p.lse.size(); ++i) CHECK(ValueAt(p.lse, i) == ValueAt(p.sink_logits, 0));
  }
}

TEST_CASE("packed documents have the learned sinks that they have alone, and add up their gradients (P8)") {
  const std::vector<int> lengths = {5, 1, 40, 3, 33};
  for (DType dtype : kDTypes) {
    for (AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {3, 4}, {40, 0}}) {
      TestContext t;
      const AttentionPass packed = RunPass(t.ctx, dtype, lengths, kHeads[1], spec, LearnedSinks::kWith);
      const Tensor sum = ZeroLike(t.arena, DType::kF64, packed.dsink_logits);
      std::int64_t begin = 0;
      for (int length : lengths) {
        const auto rows = [&](const Tensor& x) { return x.Rows(begin, begin + length); };
        AttentionPass inputs;
        inputs.q = rows(packed.q), inputs.dout = rows(packed.dout);
        inputs.k = rows(packed.k), inputs.v = rows(packed.v), inputs.sink_logits = packed.sink_logits;
        const AttentionPass alone = MakePass(t.arena, dtype, {length}, kHeads[1], LearnedSinks::kWith, &inputs);
        RunAttention(t.ctx, alone, spec);
        CHECK(SameBits(rows(packed.out), alone.out));
        CHECK(SameBits(rows(packed.lse), alone.lse));
        CHECK(SameBits(rows(packed.dq), alone.dq));
        CHECK(SameBits(rows(packed.dk), alone.dk));
        CHECK(SameBits(rows(packed.dv), alone.dv));
        for (std::int64_t h = 0; h < sum.size(); ++h) sum.data<double>()[h] += ValueAt(alone.dsink_logits, h);
        begin += length;
      }
      // Sums of the same 82 terms in another order.
      CHECK(RelativeError(packed.dsink_logits, sum) <= 82 * (dtype == DType::kF64 ? 0x1p-52 : 0x1p-23));
    }
  }
}

TEST_CASE("the gradient of learned sinks has the same bits for any number of threads, and is added to what is there") {
  for (DType dtype : kDTypes) {
    TestContext one(1), three(3);
    const AttentionPass a = RunPass(one.ctx, dtype, {600, 200}, {4, 2, 16}, {7, 1}, LearnedSinks::kWith);
    const AttentionPass b = RunPass(three.ctx, dtype, {600, 200}, {4, 2, 16}, {7, 1}, LearnedSinks::kWith);
    CheckSameResults(a, b);
    const Tensor before = CopyOf(one.arena, a.dsink_logits);
    AttentionBackward(one.ctx, {a.dq, a.dk, a.dv, a.dsink_logits}, a.dout, a.out, a.lse,
                      {a.q, a.k, a.v, a.q_pos, a.documents, {7, 1}, a.sink_logits});
    for (std::int64_t h = 0; h < before.size(); ++h) CHECK(ValueAt(a.dsink_logits, h) == 2 * ValueAt(before, h));
  }
}
