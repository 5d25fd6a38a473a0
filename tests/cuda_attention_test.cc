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
  Tensor q, k, v, sink_logits, out, lse, prompts = {};
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

// The document again, `chunk` tokens at a time over a cache; returns how many chunks of out or lse have other bits.
int DifferentChunks(const Context& ctx, const Document& d, AttentionSpec spec, int chunk) {
  const auto length = static_cast<int>(d.q.dim(0)), G = static_cast<int>(d.k.dim(1)), D = static_cast<int>(d.q.dim(2));
  const KeyCache cache(d.q.dtype(), /*slots=*/2, G, D, spec, length, chunk, MemoryKind::kDevice);
  int different = 0;
  for (int begin = 0; begin < length; begin += chunk) {
    const int end = std::min(length, begin + chunk);
    std::vector<std::int32_t> positions;
    for (std::int32_t n = begin; n < end; ++n) positions.push_back(n);
    const Tensor at = ToDevice(ctx, Ints(ctx.HostArena(), positions)),
                 slots = ToDevice(ctx, Ints(ctx.HostArena(), std::vector<std::int32_t>(positions.size(), 1))),
                 prompts = d.prompts.empty() ? Tensor{} : d.prompts.Rows(begin, end);
    const Tensor out = ctx.arena->New(d.q.dtype(), {end - begin, d.q.dim(1), D}),
                 lse = ctx.arena->New(d.lse.dtype(), {end - begin, d.q.dim(1)});
    StoreKeys(ctx, cache, d.k.Rows(begin, end), d.v.Rows(begin, end), at, slots);
    CachedAttentionForward(ctx, out, lse, {d.q.Rows(begin, end), cache, at, slots, spec, d.sink_logits, prompts});
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
            different += DifferentChunks(t.ctx, Attend(t.ctx, dtype, h, spec, learned), spec, chunk);
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

// On Hopper warpgroups multiply for documents of these head dims, and warps for a cache.
TEST_CASE(
    "CUDA: documents packed together have the bits of each alone over a cache, however tiles and groups cut them") {
  if (SkippedWithoutCuda()) return;
  constexpr int kChunk = 50;
  const std::vector<int> lengths = {1, 63, 64, 65, 150, 700, 200};  // around the tiles, and in several blocks
  for (const Heads& h : {Heads{3, 3, 64}, Heads{6, 2, 64}, Heads{8, 1, 128}, Heads{2, 2, 128}}) {
    for (const AttentionSpec spec :
         {AttentionSpec{0, 0}, {1, 0}, {40, 4}, {64, 0}, {100, 65}, {33, 300}, {512, 4}, {40, 0, /*prompt=*/true}}) {
      for (const LearnedSinks learned : kWithAndWithout) {
        TestContext t(Device::kCuda);
        AttentionPass host = MakePass(t.ctx.HostArena(), DType::kBF16, lengths, h, learned);
        std::vector<std::int32_t> prompts;
        for (const int length : lengths) prompts.insert(prompts.end(), static_cast<std::size_t>(length), length / 3);
        const AttentionPass p = MovedToDevice(t.ctx, host);
        const Tensor of_rows = spec.prompt ? ToDevice(t.ctx, Ints(t.ctx.HostArena(), prompts)) : Tensor{};
        AttentionForward(t.ctx, p.out, p.lse, {p.q, p.k, p.v, p.q_pos, p.documents, spec, p.sink_logits, of_rows});
        int different = 0, begin = 0;
        for (const int length : lengths) {
          const int end = begin + length;
          const auto rows = [&](const Tensor& x) { return x.empty() ? x : x.Rows(begin, end); };
          const Document d{rows(p.q), rows(p.k), rows(p.v), p.sink_logits, rows(p.out), rows(p.lse), rows(of_rows)};
          different += DifferentChunks(t.ctx, d, spec, kChunk);
          begin = end;
        }
        CHECK(different == 0);
      }
    }
  }
}
