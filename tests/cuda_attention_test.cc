// SPDX-License-Identifier: Apache-2.0
// Attention on a CUDA device over a cache, at the head dims and groups of query heads that its kernels tell apart: the
// scalar ones in f64 and f32, tensor cores in bf16 with rows of 32, 64 and 128 numbers, and groups that take more than
// one fragment of 16 rows.
#include <doctest/doctest.h>

#include "attn/attention.h"
#include "cuda_report.h"
#include "tensors.h"

using namespace swarr;

namespace {

struct Heads {
  std::int64_t H, G, D;
};
constexpr Heads kHeads[] = {{3, 3, 6}, {5, 1, 8}, {9, 3, 64}, {17, 1, 64}, {4, 2, 96}, {6, 2, 128}, {33, 1, 32}};
constexpr int kLength = 150;  // more than four tiles and three windows

// One document: the inputs, and what attention over all of it gives, on the device.
struct Document {
  Tensor q, k, v, out, lse;
};

Document Attend(const Context& ctx, DType dtype, Heads h, AttentionSpec spec) {
  Arena& host = ctx.HostArena();
  std::vector<std::int32_t> positions;
  for (std::int32_t n = 0; n < kLength; ++n) positions.push_back(n);
  Document d{ToDevice(ctx, Random(host, dtype, {kLength, h.H, h.D}, 1, 2)),
             ToDevice(ctx, Random(host, dtype, {kLength, h.G, h.D}, 2, 2)),
             ToDevice(ctx, Random(host, dtype, {kLength, h.G, h.D}, 3)), ctx.arena->New(dtype, {kLength, h.H, h.D}),
             ctx.arena->New(AccumulatorOf(dtype), {kLength, h.H})};
  AttentionForward(
      ctx, d.out, d.lse,
      {d.q, d.k, d.v, ToDevice(ctx, Ints(host, positions)), ToDevice(ctx, Ints(host, {0, kLength})), spec});
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
    CachedAttentionForward(ctx, out, lse, d.q.Rows(begin, end), cache, at, slots, spec);
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
    for (const Heads& h : kHeads) {
      int different = 0;
      for (const AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {7, 1}, {40, 4}, {33, 40}}) {
        for (const int chunk : {1, 5, 16}) {
          TestContext t(Device::kCuda);
          different += DifferentRows(t.ctx, Attend(t.ctx, dtype, h, spec), dtype, h, spec, chunk);
        }
      }
      report.Line(Concat(Name(dtype), " ", h.H, " heads over ", h.G, " of ", h.D),
                  {{"chunks with other bits", static_cast<double>(different)}});
      CHECK(different == 0);
    }
  }
}
