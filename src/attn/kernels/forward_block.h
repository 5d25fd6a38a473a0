// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The forward of one block of queries: of a key head, or of all heads of one query.
#pragma once

#include "attn/kernels/scratch.h"
#include "attn/kernels/tile_products.h"
#include "attn/kernels/weights.h"

namespace swarr {
namespace {

// The softmax of a block's rows: packs the weights before they are divided by their sum, and writes the log of this sum
// and its reciprocal. sink_of(r) is the row's learned sink.
template <class T, class F>
void WeighRows(const Shape<T>& s, const Block& b, const BlockSight& sight, std::int64_t g, const Scratch<T>& t,
               const F& sink_of, Accumulator<T>* lse) {
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
      }
    });
  });
}

// A block of queries of key head g between its two products: scores(steps) writes the rows' scores, weighted()
// the products of their packed weights with the values.
template <class T, class Scores, class Weighted>
void ForwardRows(const Shape<T>& s, const Block& b, const BlockSight& sight, std::int64_t g, const T* sinks,
                 const Scratch<T>& t, T* out, Accumulator<T>* lse, const Scores& scores, const Weighted& weighted) {
  using Sum = Accumulator<T>;
  const std::int64_t rows = b.count * s.group;
  const auto sink_of = [&](std::int64_t r) { return SinkOf(sinks, g * s.group + r % s.group); };
  if (sight.keys() == 0) {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::fill_n(out + HeadOf(s, b, g, r) * s.D, s.D, T());
      lse[HeadOf(s, b, g, r)] = sink_of(r);
    }
    return;
  }
  scores(ScoreSteps::ByRow(sight.keys()));
  WeighRows(s, b, sight, g, t, sink_of, lse);
  weighted();
  const std::int64_t D = s.D;
  for (std::int64_t r = 0; r < rows; ++r) {
    T* to = out + HeadOf(s, b, g, r) * s.D;
    // + 0 makes one zero of two: keys that weigh nothing may or may not have turned -0 into 0.
    const Sum *from = t.o + r * s.width, inverse = t.lse[r];
    for (std::int64_t d = 0; d < D; ++d) to[d] = static_cast<T>(from[d] * inverse + Sum(0));
  }
}

template <class T>
void ForwardBlock(const Shape<T>& s, const Block& b, const Tiles<T>& tiles, std::int64_t g, AttentionSpec spec,
                  const T* q, const T* sinks, const Scratch<T>& t, T* out, Accumulator<T>* lse) {
  const std::int64_t rows = b.count * s.group;
  const BlockSight sight(b, s.group, spec);
  ForwardRows(
      s, b, sight, g, sinks, t, out, lse,
      [&](ScoreSteps steps) {
        MultiplyKeys(s, tiles, sight.tiles, rows, RowsOf(s, b, g, q, t.q), t.packed, t.s, steps);
      },
      [&] { MultiplyValues(s, tiles, sight, rows, t.packed, t.o); });
}

// All heads of one query, each with a key head of its own, as if they were the rows of one key head: rows that are
// weighed together, and multiplied with values of their own, wait less for their own sums than one alone.
template <class T, class F>
void ForwardQuery(const Shape<T>& s, const Block& b, AttentionSpec spec, const F& tiles_of, const T* q, const T* sinks,
                  const Scratch<T>& t, T* out, Accumulator<T>* lse) {
  const Shape<T> heads{.H = s.H, .G = 1, .D = s.D, .kernel = s.kernel};
  const BlockSight sight(b, s.H, spec);
  ForwardRows(
      heads, b, sight, 0, sinks, t, out, lse,
      [&](ScoreSteps steps) { MultiplyOwnKeys(s, tiles_of, sight.tiles, q + b.row * s.H * s.D, t.packed, t.s, steps); },
      [&] { MultiplyOwnValues(s, tiles_of, sight, t.packed, t.o); });
}

}  // namespace
}  // namespace swarr
