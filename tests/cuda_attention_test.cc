// SPDX-License-Identifier: Apache-2.0
// Attention on a CUDA device over a cache, at the head dims and groups of query heads that its kernels tell apart: the
// scalar ones in f64 and f32, tensor cores in bf16 with rows of 32, 64 and 128 numbers, and groups that take more than
// one fragment of 16 rows.
#include <doctest/doctest.h>

#include "attention_pass.h"
#include "cuda_report.h"

using namespace swarr;

namespace {

constexpr Heads kDeviceHeads[] = {{3, 3, 6}, {5, 1, 8}, {9, 3, 64}, {17, 1, 64}, {4, 2, 96}, {6, 2, 128}, {33, 1, 32}};
constexpr int kLength = 150;  // more than four tiles and three windows

// One document: the inputs, and what attention over all of it gives, on the device.
struct Document {
  Tensor q, k, v, sink_logits, out, lse;
};

Document Attend(const Context& ctx, DType dtype, Heads h, AttentionSpec spec, LearnedSinks learned) {
  Arena& host = ctx.HostArena();
  std::vector<std::int32_t> positions;
  for (std::int32_t n = 0; n < kLength; ++n) positions.push_back(n);
  Document d{ToDevice(ctx, Random(host, dtype, {kLength, h.H, h.D}, 1, 2)),
             ToDevice(ctx, Random(host, dtype, {kLength, h.G, h.D}, 2, 2)),
             ToDevice(ctx, Random(host, dtype, {kLength, h.G, h.D}, 3)),
             learned == LearnedSinks::kWith ? ToDevice(ctx, Random(host, dtype, {h.H}, 5, 3)) : Tensor{},
             ctx.arena->New(dtype, {kLength, h.H, h.D}),
             ctx.arena->New(AccumulatorOf(dtype), {kLength, h.H})};
  AttentionForward(ctx, d.out, d.lse,
                   {d.q, d.k, d.v, ToDevice(ctx, Ints(host, positions)), ToDevice(ctx, Ints(host, {0, kLength})), spec,
                    d.sink_logits});
  return d;
}

// The document again, `chunk` tokens at a time over a cache; returns how many rows of out or lse have other bits.
int DifferentRows(const Context& ctx, const Document& d, DType dtype, Heads h, AttentionSpec spec, int chunk) {
  const KeyCache cache(dtype, /*slots=*/2, static_cast<int>(h.G), static_cast<int>(h.D), spec, kLength, chunk,
                       MemoryKind::kDevice);
  int different = 0;
  for (int begin = 0; begin < kLength; begin += chunk) {
    const int end = std::min(kLength, begin + chunk);
    std::vector<std::int32_t> positions;
    for (std::int32_t n = begin; n < end; ++n) positions.push_back(n);
    const Tensor at = ToDevice(ctx, Ints(ctx.HostArena(), positions)),
                 slots = ToDevice(ctx, Ints(ctx.HostArena(), std::vector<std::int32_t>(positions.size(), 1)));
    const Tensor out = ctx.arena->New(dtype, {end - begin, h.H, h.D}),
                 lse = ctx.arena->New(AccumulatorOf(dtype), {end - begin, h.H});
    StoreKeys(ctx, cache, d.k.Rows(begin, end), d.v.Rows(begin, end), at, slots);
    CachedAttentionForward(ctx, out, lse, {d.q.Rows(begin, end), cache, at, slots, spec, d.sink_logits});
    different += !SameBits(OnHost(ctx, out), OnHost(ctx, d.out.Rows(begin, end))) ||
                 !SameBits(OnHost(ctx, lse), OnHost(ctx, d.lse.Rows(begin, end)));
  }
  return different;
}

}  // namespace

TEST_CASE(
    "CUDA: attention over a cache has the bits of attention over the document, for all head dims and groups (P8)") {
  if (SkippedWithoutCuda()) return;
  Report report("attention over a cache");
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const Heads& h : kDeviceHeads) {
      int different = 0;
      for (const AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {7, 1}, {40, 4}, {33, 40}}) {
        for (const int chunk : {1, 5, 16}) {
          for (const LearnedSinks learned : kWithAndWithout) {
            TestContext t(Device::kCuda);
            different += DifferentRows(t.ctx, Attend(t.ctx, dtype, h, spec, learned), dtype, h, spec, chunk);
          }
        }
      }
      report.Line(Concat(Name(dtype), " ", h.H, " heads over ", h.G, " of ", h.D),
                  {{"chunks with other bits", static_cast<double>(different)}});
      CHECK(different == 0);
    }
  }
}

namespace {

// The pass with its inputs, and memory for its results, on the device.
AttentionPass MovedToDevice(const Context& ctx, AttentionPass p) {
  for (Tensor* t : {&p.q, &p.k, &p.v, &p.dout, &p.sink_logits, &p.q_pos, &p.documents, &p.out, &p.lse, &p.dq, &p.dk,
                    &p.dv, &p.dsink_logits}) {
    *t = ToDevice(ctx, *t);
  }
  return p;
}

}  // namespace

TEST_CASE(
    "CUDA: a row that sees no key has out 0 and its learned sink as lse, and two runs give sinks the same gradient") {
  if (SkippedWithoutCuda()) return;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const Heads& h : kDeviceHeads) {
      TestContext t(Device::kCuda);
      const AttentionPass host = MakePass(t.ctx.HostArena(), dtype, {150, 40}, h, LearnedSinks::kWith);
      const std::vector<std::int64_t> blind = {0, 70, 149, 189};
      for (const std::int64_t n : blind) host.q_pos.data<std::int32_t>()[n] = -1;
      const AttentionPass p = MovedToDevice(t.ctx, host), again = MovedToDevice(t.ctx, host);
      RunAttention(t.ctx, p, {20, 4});
      RunAttention(t.ctx, again, {20, 4});
      CHECK(SameBits(OnHost(t.ctx, p.dsink_logits), OnHost(t.ctx, again.dsink_logits)));
      const Tensor out = OnHost(t.ctx, p.out), lse = OnHost(t.ctx, p.lse);
      for (const std::int64_t n : blind) {
        for (std::int64_t i = 0; i < h.H; ++i) CHECK(ValueAt(lse, n * h.H + i) == ValueAt(host.sink_logits, i));
        for (std::int64_t i = n * h.H * h.D; i < (n + 1) * h.H * h.D; ++i) CHECK(ValueAt(out, i) == 0);
      }
    }
  }
}
