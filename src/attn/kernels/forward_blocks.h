// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The forward of blocks of queries, in training and over a cache.
#pragma once

#include "attn/kernels/scratch.h"
#include "attn/kernels/tile_products.h"
#include "attn/kernels/weights.h"

namespace swarr {
namespace {

// What the forward reads and writes.
template <class T>
struct ForwardRows {
  const T* q;
  const T *k, *v;  // null over a cache
  const T* sinks;  // null: none
  T* out;
  Accumulator<T>* lse;

  // Row r of a block comes next.
  [[gnu::always_inline]] void FetchRow(const Shape<T>& s, const Block& b, std::int64_t g, std::int64_t r) const {
    Fetch(s, q + HeadOf(s, b, g, r) * s.D);
    Fetch(s, out + HeadOf(s, b, g, r) * s.D);
    if (!k || r % s.group != 0) return;
    const std::int64_t key = ((b.row + r / s.group) * s.G + g) * s.D;
    Fetch(s, k + key);
    Fetch(s, v + key);
  }
};

// The softmax of a block's rows: packs the weights before they are divided by their sum, and writes the log of this sum
// and its reciprocal. sink_of(r) is the row's learned sink; fetch(r) is called for every row, once.
template <class T, class Sink, class F>
void WeighRows(const Shape<T>& s, const Block& b, const BlockSight& sight, std::int64_t g, const Scratch<T>& t,
               const Sink& sink_of, Accumulator<T>* lse, const F& fetch) {
  using Sum = Accumulator<T>;
  const std::int64_t rows = b.count * s.group, keys = sight.keys();
  const ScoreSteps steps = ScoreSteps::ByRow(keys);
  WithPacked(s.kernel, [&]<class To>() {
    ForRowsTogether<T>(s.kernel, rows, sight, [&]<int kRows>(std::int64_t r, const VisibleKeys& units) {
      Sum largest[kRows], sum[kRows];
      for (int i = 0; i < kRows; ++i) Mask<T>(sight.SeenBy(r + i), units, t.s, steps, r + i);
      LargestScores<T>(t.s, steps, r, units, largest);
      for (int i = 0; i < kRows; ++i) {
        const Sum sink = sink_of(r + i);
        largest[i] *= s.scale;
        if (largest[i] < sink) largest[i] = sink;
      }
      PackWeights<To, T>(t.s, steps, r, units, s.scale, largest, s.kernel.RowOf(t.packed, rows, keys, r), sum);
      for (int i = 0; i < kRows; ++i) {
        if (const Sum sink = sink_of(r + i); sink != kNothing<Sum>) sum[i] += Exp(sink - largest[i]);
        lse[HeadOf(s, b, g, r + i)] = largest[i] + std::log(sum[i]);
        t.lse[r + i] = Sum(1) / sum[i];
        fetch(r + i);
      }
    });
  });
}

// A block of queries of key head g, around its two products: scores(steps) writes the rows' scores, weighted() the
// products of their packed weights with the values. fetch(r) is called for every row, once.
template <class T, class Scores, class Weighted, class F>
void AttendRows(const Shape<T>& s, const Block& b, const BlockSight& sight, std::int64_t g, const ForwardRows<T>& x,
                const Scratch<T>& t, const Scores& scores, const Weighted& weighted, const F& fetch) {
  using Sum = Accumulator<T>;
  const std::int64_t rows = b.count * s.group;
  const auto sink_of = [&](std::int64_t r) { return SinkOf(x.sinks, g * s.group + r % s.group); };
  if (sight.keys() == 0) {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::fill_n(x.out + HeadOf(s, b, g, r) * s.D, s.D, T());
      x.lse[HeadOf(s, b, g, r)] = sink_of(r);
    }
    return;
  }
  scores(ScoreSteps::ByRow(sight.keys()));
  WeighRows(s, b, sight, g, t, sink_of, x.lse, fetch);
  weighted();
  const std::int64_t D = s.D;
  for (std::int64_t r = 0; r < rows; ++r) {
    T* to = x.out + HeadOf(s, b, g, r) * s.D;
    // + 0 makes one zero of two: keys that weigh nothing may or may not have turned -0 into 0.
    const Sum *from = t.o + r * s.width, inverse = t.lse[r];
    for (std::int64_t d = 0; d < D; ++d) to[d] = static_cast<T>(from[d] * inverse + Sum(0));
  }
}

// `next` is the block that comes next for this head, or null.
template <class T>
void ForwardBlock(const Shape<T>& s, const Block& b, const Block* next, const Tiles<T>& tiles, std::int64_t g,
                  AttentionSpec spec, const ForwardRows<T>& x, const Scratch<T>& t) {
  const std::int64_t rows = b.count * s.group;
  const BlockSight sight(b, s.group, spec);
  AttendRows(
      s, b, sight, g, x, t,
      [&](ScoreSteps steps) {
        MultiplyKeys(s, tiles, sight.tiles, rows, RowsOf(s, b, g, x.q, t.q), t.packed, t.s, steps);
      },
      [&] { MultiplyValues(s, tiles, sight, rows, t.packed, t.o); },
      [&](std::int64_t r) __attribute__((always_inline)) {
        if (next && r < next->count * s.group) x.FetchRow(s, *next, g, r);
      });
}

// All heads of one query, each with a key head of its own, as if they were the rows of one key head: rows that are
// weighed together, and multiplied side by side, each with keys and values of its own, wait less for their own sums
// than one alone. tiles_of(h) are those of head h.
template <class T, class F>
void ForwardQuery(const Shape<T>& s, const Block& b, AttentionSpec spec, const F& tiles_of, const ForwardRows<T>& x,
                  const Scratch<T>& t) {
  const Shape<T> heads{.H = s.H, .G = 1, .D = s.D, .kernel = s.kernel};
  const BlockSight sight(b, s.H, spec);
  AttendRows(
      heads, b, sight, 0, x, t,
      [&](ScoreSteps steps) {
        MultiplyOwnKeys(s, tiles_of, sight.tiles, x.q + b.row * s.H * s.D, t.packed, t.s, steps);
      },
      [&] { MultiplyOwnValues(s, tiles_of, sight, t.packed, t.o); }, [](std::int64_t) {});
}

// The forward of all blocks and key heads; any thread takes any of them, in the order of their owners and heads. `in`
// is of either kind of inputs; tiles_of(thread, block, head) gives the keys.
template <class T, class Inputs, class F>
void ForwardBlocks(const Context& ctx, const Shape<T>& s, const Tensor& out, const Tensor& lse, const Inputs& in,
                   const Block* blocks, std::int64_t count, F&& tiles_of) {
  ForwardRows<T> rows = {.q = in.q.template data<T>(),
                         .k = nullptr,
                         .v = nullptr,
                         .sinks = in.sink_logits.empty() ? nullptr : in.sink_logits.template data<T>(),
                         .out = out.data<T>(),
                         .lse = lse.data<Accumulator<T>>()};
  if constexpr (requires { in.k; }) rows.k = in.k.template data<T>(), rows.v = in.v.template data<T>();
  std::int64_t most = 1, work = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const AttentionSpec spec = SpecOfRow(in, blocks[i].row);
    const std::int64_t tiles = Count(VisibleTilesOf(blocks[i].first_pos, blocks[i].last_pos(), spec));
    most = std::max(most, tiles);
    work += tiles * kKeyTile * blocks[i].count * s.H * s.D;
  }
  ArenaScope scope(*ctx.arena);
  const std::int64_t keys = most * kKeyTile;
  Scratch<T>* scratch = ctx.arena->NewArray<Scratch<T>>(ctx.threads);
  for (int i = 0; i < ctx.threads; ++i) new (&scratch[i]) Scratch<T>(*ctx.arena, s, s.block_rows, keys, false);
  const int threads = ThreadsFor(ctx, work);
  // In decoding a block is one query. As many queries as threads share out the work without their heads, and the task
  // of the first head is all of them. A cache has the tiles of all heads at once.
  const bool together =
      !rows.k && s.group == 1 && s.H <= s.block_rows && count >= std::max(threads, s.kernel.each_from);
  const HeadTask* tasks = HeadTasks(*ctx.arena, blocks, count, s.G);
  ForShares(threads, count * s.G, [&](int thread, std::int64_t task) {
    const auto [block, g] = tasks[task];
    const Block& b = blocks[block];
    const AttentionSpec spec = SpecOfRow(in, b.row);
    if (together && b.count == 1) {
      if (g > 0) return;
      return ForwardQuery(
          s, b, spec, [&](std::int64_t h) { return tiles_of(thread, b, h); }, rows, scratch[thread]);
    }
    const bool goes_on = task + 1 < count * s.G && tasks[task + 1].head == g && blocks[block + 1].owner == b.owner;
    ForwardBlock(s, b, goes_on ? &b + 1 : nullptr, tiles_of(thread, b, g), g, spec, rows, scratch[thread]);
  });
}

}  // namespace
}  // namespace swarr
