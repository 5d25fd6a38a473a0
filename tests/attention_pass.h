// SPDX-License-Identifier: Apache-2.0
// Attention over packed documents, forward and backward, as the tests of attention run it.
#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "attn/attention.h"
#include "tensors.h"

namespace swarr {

struct Heads {
  std::int64_t H, G, D;
};
inline constexpr Heads kHeads[] = {{3, 3, 5}, {4, 2, 3}, {7, 1, 17}};  // 1, 2 and 7 query heads for a key head
inline constexpr Heads kManyHeads = {64, 1, 3};                        // twice as many as a block of queries has rows

inline std::vector<AttentionSpec> SpecsFor(int T) {
  std::vector<AttentionSpec> specs;
  for (int window : {0, 1, 2, 3, 7, T, T + 5}) {
    for (int sinks : {0, 1, 4}) specs.push_back({window, sinks});
  }
  return specs;
}

inline Tensor InF64(Arena& arena, const Tensor& t) {
  const Tensor wide = ZeroLike(arena, DType::kF64, t);
  for (std::int64_t i = 0; i < t.size(); ++i) wide.data<double>()[i] = ValueAt(t, i);
  return wide;
}

// Documents packed one after another, forward and backward.
struct AttentionPass {
  Tensor q, k, v, dout;              // [N, H, D], [N, G, D], as dout = q
  Tensor sink_logits;                // [H]; empty: no learned sinks
  Tensor q_pos, documents, prompts;  // prompts: [N], where the spec keeps them
  Tensor out, lse, dq, dk, dv, dsink_logits;
};

inline void RunAttention(const Context& ctx, const AttentionPass& p, AttentionSpec spec) {
  const AttentionInputs inputs{p.q, p.k, p.v, p.q_pos, p.documents, spec, p.sink_logits, p.prompts};
  AttentionForward(ctx, p.out, p.lse, inputs);
  for (const Tensor& t : {p.dq, p.dk, p.dv, p.dsink_logits}) FillZero(ctx, t);
  AttentionBackward(ctx, {p.dq, p.dk, p.dv, p.dsink_logits}, p.dout, p.out, p.lse, inputs);
}

enum class LearnedSinks : bool { kWithout, kWith };
constexpr LearnedSinks kWithAndWithout[] = {LearnedSinks::kWithout, LearnedSinks::kWith};

// A pass over `lengths` with memory for its results. What goes in is given or random.
inline AttentionPass MakePass(Arena& arena, DType dtype, const std::vector<int>& lengths, Heads h,
                              LearnedSinks learned = LearnedSinks::kWithout, const AttentionPass* inputs = nullptr) {
  std::vector<std::int32_t> position, first = {0};
  for (int length : lengths) {
    for (int t = 0; t < length; ++t) position.push_back(t);
    first.push_back(first.back() + length);
  }
  const std::int64_t N = first.back();
  AttentionPass p;
  if (inputs) {
    p = *inputs;
  } else {
    p.q = Random(arena, dtype, {N, h.H, h.D}, 1, 2);
    p.k = Random(arena, dtype, {N, h.G, h.D}, 2, 2);
    p.v = Random(arena, dtype, {N, h.G, h.D}, 3);
    p.dout = Random(arena, dtype, {N, h.H, h.D}, 4);
    if (learned == LearnedSinks::kWith) p.sink_logits = Random(arena, dtype, {h.H}, 5, 3);
  }
  p.q_pos = Ints(arena, position);
  p.documents = Ints(arena, first);
  p.out = arena.New(dtype, {N, h.H, h.D});
  p.lse = arena.New(AccumulatorOf(dtype), {N, h.H});
  p.dq = arena.New(dtype, {N, h.H, h.D});
  p.dk = arena.New(dtype, {N, h.G, h.D});
  p.dv = arena.New(dtype, {N, h.G, h.D});
  if (!p.sink_logits.empty()) p.dsink_logits = arena.New(AccumulatorOf(dtype), {h.H});
  return p;
}

inline AttentionPass RunPass(const Context& ctx, DType dtype, const std::vector<int>& lengths, Heads h,
                             AttentionSpec spec, LearnedSinks learned = LearnedSinks::kWithout) {
  AttentionPass p = MakePass(*ctx.arena, dtype, lengths, h, learned);
  RunAttention(ctx, p, spec);
  return p;
}

inline void CheckSameResults(const AttentionPass& a, const AttentionPass& b) {
  CHECK(SameBits(a.out, b.out));
  CHECK(SameBits(a.lse, b.lse));
  CHECK(SameBits(a.dq, b.dq));
  CHECK(SameBits(a.dk, b.dk));
  CHECK(SameBits(a.dv, b.dv));
  CHECK(SameBits(a.dsink_logits, b.dsink_logits));
}

}  // namespace swarr
