// SPDX-License-Identifier: Apache-2.0
// Attention on a CUDA device over a cache, at the head dims and groups of query heads that its kernels tell apart: the
// scalar ones in f64 and f32, tensor cores in bf16 with rows of 32, 64 and 128 numbers, and groups that take more than
// one fragment of 16 rows; and its backward over documents of many tiles.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "attention_pass.h"
#include "autograd/gradient_check.h"
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

// The document in several slots, all of its rows in one launch; returns in how many slots out or lse have other bits.
int DifferentSlots(const Context& ctx, const Document& d, AttentionSpec spec, int copies) {
  const auto G = static_cast<int>(d.k.dim(1)), D = static_cast<int>(d.q.dim(2));
  std::vector<std::int32_t> position, slot;
  for (std::int32_t n = 0; n < copies * kLength; ++n) {
    position.push_back(n % kLength);
    slot.push_back(copies - 1 - n / kLength);
  }
  const auto repeated = [&](const Tensor& rows) {
    const Tensor all = ctx.arena->New(rows.dtype(), {copies * kLength, rows.dim(1), D});
    for (int i = 0; i < copies; ++i) Copy(ctx, all.Rows(i * kLength, (i + 1) * kLength), rows);
    return all;
  };
  const Tensor at = ToDevice(ctx, Ints(ctx.HostArena(), position)), slots = ToDevice(ctx, Ints(ctx.HostArena(), slot)),
               q = repeated(d.q), out = ctx.arena->NewLike(q),
               lse = ctx.arena->New(d.lse.dtype(), {copies * kLength, d.q.dim(1)});
  const KeyCache cache(d.q.dtype(), copies, G, D, spec, kLength, /*max_chunk=*/kLength, MemoryKind::kDevice);
  StoreKeys(ctx, cache, repeated(d.k), repeated(d.v), at, slots);
  CachedAttentionForward(ctx, out, lse, {q, cache, at, slots, spec, d.sink_logits});
  int different = 0;
  for (int i = 0; i < copies; ++i) {
    const int begin = i * kLength, end = begin + kLength;
    different += !SameBits(OnHost(ctx, out.Rows(begin, end)), OnHost(ctx, d.out)) ||
                 !SameBits(OnHost(ctx, lse.Rows(begin, end)), OnHost(ctx, d.lse));
  }
  return different;
}

// With one key head, a warp of an H200 has one row and holds two tiles; with more, it has several and holds one.
constexpr Heads kStreamedHeads[] = {{8, 1, 64},  {9, 3, 64}, {17, 1, 64}, {5, 1, 8},
                                    {33, 1, 32}, {4, 2, 96}, {6, 2, 128}};

}  // namespace

TEST_CASE(
    "CUDA: attention of many rows over a cache, a team of warps for each, has the bits of attention over documents "
    "(P8)") {
  if (SkippedWithoutCuda()) return;
  constexpr int kCopies = 5;
  for (const Heads& h : kStreamedHeads) {
    for (const AttentionSpec spec : {AttentionSpec{0, 0}, {1, 0}, {40, 4}, {33, 40}}) {
      for (const LearnedSinks learned : kWithAndWithout) {
        for (const bool recorded : {false, true}) {
          INFO(h.H << " heads over " << h.G << " of " << h.D << ", window " << spec.window << ", " << spec.sinks
                   << " sinks");
          TestContext t(Device::kCuda);
          const Document d = Attend(t.ctx, DType::kBF16, h, spec, learned);
          Context ctx = t.ctx;
          ctx.steady_weights = recorded;  // then older keys are copied early
          CHECK(DifferentSlots(ctx, d, spec, kCopies) == 0);
        }
      }
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

namespace {

const std::vector<int> kLengths = {1, 63, 64, 65, 150, 700, 200};  // around the tiles, and in several blocks
constexpr Heads kWarpgroupHeads[] = {{3, 3, 64}, {6, 2, 64}, {8, 1, 128}, {2, 2, 128}};

std::vector<std::int32_t> Prompts() {
  std::vector<std::int32_t> prompts;
  for (const int length : kLengths) prompts.insert(prompts.end(), static_cast<std::size_t>(length), length / 3);
  return prompts;
}

}  // namespace

// On Hopper warpgroups multiply for documents of these head dims, and warps for a cache.
TEST_CASE(
    "CUDA: documents packed together have the bits of each alone over a cache, however tiles and groups cut them") {
  if (SkippedWithoutCuda()) return;
  constexpr int kChunk = 50;
  for (const Heads& h : kWarpgroupHeads) {
    for (const AttentionSpec spec :
         {AttentionSpec{0, 0}, {1, 0}, {40, 4}, {64, 0}, {100, 65}, {33, 300}, {512, 4}, {40, 0, /*prompt=*/true}}) {
      for (const LearnedSinks learned : kWithAndWithout) {
        TestContext t(Device::kCuda);
        const AttentionPass p = MovedToDevice(t.ctx, MakePass(t.ctx.HostArena(), DType::kBF16, kLengths, h, learned));
        const Tensor of_rows = spec.prompt ? ToDevice(t.ctx, Ints(t.ctx.HostArena(), Prompts())) : Tensor{};
        AttentionForward(t.ctx, p.out, p.lse, {p.q, p.k, p.v, p.q_pos, p.documents, spec, p.sink_logits, of_rows});
        int different = 0, begin = 0;
        for (const int length : kLengths) {
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

namespace {

// A window of 1 is left out: gradients of scores are 0 there, and all that is left of them is rounding.
constexpr AttentionSpec kBackwardSpecs[] = {{0, 0},    {7, 1},    {40, 4},  {64, 0},
                                            {100, 65}, {33, 300}, {512, 4}, {40, 0, /*prompt=*/true}};

// Some queries see nothing, and those at the end of the last document stand in each other's rows.
void MixPositions(const AttentionPass& p) {
  std::int32_t* position = p.q_pos.data<std::int32_t>();
  const std::int64_t N = p.q_pos.dim(0);
  for (std::int64_t n = 5; n < N; n += 37) position[n] = -1;
  std::reverse(position + N - 100, position + N);
}

// The same in f64.
AttentionPass Widened(Arena& arena, const AttentionPass& p, Heads h) {
  AttentionPass wide;
  wide.q = InF64(arena, p.q), wide.k = InF64(arena, p.k), wide.v = InF64(arena, p.v), wide.dout = InF64(arena, p.dout);
  if (!p.sink_logits.empty()) wide.sink_logits = InF64(arena, p.sink_logits);
  wide = MakePass(arena, DType::kF64, kLengths, h, LearnedSinks::kWithout, &wide);
  wide.q_pos = p.q_pos;
  return wide;
}

// Writes the gradients, whatever stands there.
void WriteGradients(const Context& ctx, const AttentionPass& p, AttentionSpec spec) {
  AttentionBackward(ctx, {p.dq.Fresh(), p.dk.Fresh(), p.dv.Fresh(), {}}, p.dout, p.out, p.lse,
                    {p.q, p.k, p.v, p.q_pos, p.documents, spec, p.sink_logits, p.prompts});
}

}  // namespace

TEST_CASE(
    "CUDA: attention's backward in bf16 is near that in f64, however tiles and groups cut documents, and has the same "
    "bits twice") {
  if (SkippedWithoutCuda()) return;
  constexpr double kBound = 0.01;  // five roundings to bf16
  Report report("attention's backward, bf16 against f64");
  for (const Heads& h : kWarpgroupHeads) {
    for (const LearnedSinks learned : kWithAndWithout) {
      TestContext t(Device::kCuda);
      Arena& arena = t.ctx.HostArena();
      AttentionPass host = MakePass(arena, DType::kBF16, kLengths, h, learned);
      host.prompts = Ints(arena, Prompts());
      if (learned == LearnedSinks::kWith) MixPositions(host);
      AttentionPass exact = MovedToDevice(t.ctx, Widened(arena, host, h)), p = MovedToDevice(t.ctx, host);
      for (const AttentionSpec spec : kBackwardSpecs) {
        p.prompts = exact.prompts = spec.prompt ? ToDevice(t.ctx, host.prompts) : Tensor{};
        RunAttention(t.ctx, exact, spec);
        RunAttention(t.ctx, p, spec);
        std::vector<Tensor> first, second;
        std::vector<Report::Number> errors = {{"dq", 0}, {"dk", 0}, {"dv", 0}, {"sinks", 0}};
        const auto compare = [&](std::size_t i, const Tensor& gradient, const Tensor& reference) {
          first.push_back(OnHost(t.ctx, gradient));
          errors[i].second = RelativeError(first.back(), OnHost(t.ctx, reference));
          CHECK(errors[i].second <= kBound);
        };
        compare(0, p.dq, exact.dq);
        compare(1, p.dk, exact.dk);
        compare(2, p.dv, exact.dv);
        if (learned == LearnedSinks::kWith) compare(3, p.dsink_logits, exact.dsink_logits);
        report.Line(Concat(h.H, " heads over ", h.G, " of ", h.D, ", window ", spec.window, ", ", spec.sinks, " sinks",
                           spec.prompt ? ", prompts" : "", learned == LearnedSinks::kWith ? ", mixed positions" : ""),
                    errors);
        WriteGradients(t.ctx, p, spec);
        for (const Tensor* gradient : {&p.dq, &p.dk, &p.dv}) second.push_back(OnHost(t.ctx, *gradient));
        for (std::size_t i = 0; i < second.size(); ++i) CHECK(SameBits(first[i], second[i]));
      }
    }
  }
}

TEST_CASE("CUDA: what is not a number in one document changes no output and no gradient of another") {
  if (SkippedWithoutCuda()) return;
  constexpr std::size_t kSpoiled = 4;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < kSpoiled; ++i) begin += kLengths[i];
  const std::int64_t end = begin + kLengths[kSpoiled];
  for (const Heads& h : kWarpgroupHeads) {
    for (const AttentionSpec spec : {AttentionSpec{0, 0}, {40, 4}}) {
      TestContext t(Device::kCuda);
      const AttentionPass host = MakePass(t.ctx.HostArena(), DType::kBF16, kLengths, h);
      AttentionPass p = MovedToDevice(t.ctx, host);
      RunAttention(t.ctx, p, spec);
      const auto results = [&] {
        return std::vector<Tensor>{OnHost(t.ctx, p.out), OnHost(t.ctx, p.dq), OnHost(t.ctx, p.dk), OnHost(t.ctx, p.dv)};
      };
      const std::vector<Tensor> before = results();
      for (const Tensor& x : {host.q, host.k, host.v, host.dout}) {
        const std::int64_t width = x.size() / x.dim(0);
        std::fill(x.data<BFloat16>() + begin * width, x.data<BFloat16>() + end * width,
                  static_cast<BFloat16>(std::numeric_limits<float>::quiet_NaN()));
      }
      p.q = ToDevice(t.ctx, host.q), p.k = ToDevice(t.ctx, host.k), p.v = ToDevice(t.ctx, host.v);
      p.dout = ToDevice(t.ctx, host.dout);
      RunAttention(t.ctx, p, spec);
      const std::vector<Tensor> after = results();
      for (std::size_t i = 0; i < before.size(); ++i) {
        CHECK(SameBits(before[i].Rows(0, begin), after[i].Rows(0, begin)));
        CHECK(SameBits(before[i].Rows(end, before[i].dim(0)), after[i].Rows(end, after[i].dim(0))));
      }
    }
  }
}
