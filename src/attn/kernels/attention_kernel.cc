// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Attention over tiles of keys, as four kinds of products with one row operation between them. A block holds queries of
// one document and one key head, up to kQueryBlock rows: the heads of each query that share the key head. It takes the
// visible tiles together. A key that one of its queries does not see weighs exactly 0 there, and adding 0 leaves a sum
// as it is. So a query's bits do not depend on the queries in its block: alone in decoding, or many in training.
#include "attn/kernels/scratch.h"
#include "attn/kernels/weights.h"

namespace swarr {
namespace {

template <class T>
Shape<T> ShapeOf(const Context& ctx, std::int64_t H, std::int64_t G, std::int64_t D) {
  return {.H = H, .G = G, .D = D, .kernel = TileKernelOf<SWARR_SET, T>(ctx.cpu)};
}

// scores = x k^T for the visible tiles, x [rows, D]. All rows meet a tile before the next, so that it is read once from
// the farther caches, unless they are one tile of the kernel's.
template <class T>
void MultiplyKeys(const Shape<T>& s, const Tiles<T>& tiles, const VisibleKeys& visible, std::int64_t g,
                  std::int64_t rows, const T* x, std::byte* packed, Accumulator<T>* scores, ScoreSteps steps) {
  const BlockRows<T> a = PackRows(s.kernel, Strided<T>{x, s.D, 1}, rows, s.D, packed);
  ForRuns(visible, tiles, [&](int tile, int count) {
    const int at_once = rows <= s.kernel.rows && steps.tile == kKeyTile ? count : 1;
    for (const int end = tile + count; tile < end; tile += at_once, scores += at_once * steps.tile) {
      MultiplyPanels(s.kernel, a, 0, rows, at_once, s.D, tiles.Columns(s, g, tile), s.key_tile, /*accumulate=*/false,
                     scores, steps.row);
    }
  });
}

// o[rows, width] = p v over the visible tiles, p [rows, keys] packed. All rows meet a few tiles of values before the
// next.
template <class T>
void MultiplyValues(const Shape<T>& s, const Tiles<T>& tiles, const VisibleKeys& visible, std::int64_t g,
                    std::int64_t rows, const std::byte* p, Accumulator<T>* o) {
  const BlockRows<T> weights{p, std::int64_t{Count(visible)} * kKeyTile, 0};
  std::int64_t k0 = 0;
  ForRuns(visible, tiles, [&](int tile, int count) {
    const int most = rows > s.kernel.rows ? 4 : count;
    for (const int end = tile + count; tile < end;) {
      const int at_once = std::min(most, end - tile);
      const std::int64_t depth = std::int64_t{at_once} * kKeyTile;
      MultiplyPanels(s.kernel, weights, k0, rows, s.value_panels, depth, tiles.Rows(s, g, 0, tile),
                     tiles.count * s.value_tile, /*accumulate=*/k0 > 0, o, s.width);
      tile += at_once, k0 += depth;
    }
  });
}

template <class T>
void ForwardBlock(const Shape<T>& s, const Block& b, const Tiles<T>& tiles, std::int64_t g, AttentionSpec spec,
                  const T* q, const T* sinks, const Scratch<T>& t, T* out, Accumulator<T>* lse) {
  using Sum = Accumulator<T>;
  const std::int64_t rows = b.count * s.group;
  const VisibleKeys visible = VisibleTilesOf(b.first_pos, b.last_pos(), spec);
  const std::int64_t keys = std::int64_t{Count(visible)} * kKeyTile;
  const auto sink_of = [&](std::int64_t r) { return SinkOf(sinks, g * s.group + r % s.group); };
  if (keys == 0) {
    for (std::int64_t r = 0; r < rows; ++r) {
      std::fill_n(out + HeadOf(s, b, g, r) * s.D, s.D, T());
      lse[HeadOf(s, b, g, r)] = sink_of(r);
    }
    return;
  }
  Gather(s, b, g, q, t.q);
  const ScoreSteps steps = ScoreSteps::ByRow(Count(visible));
  MultiplyKeys(s, tiles, visible, g, rows, t.q, t.packed, t.s, steps);
  WithPacked(s.kernel, [&]<class To>() {
    for (std::int64_t r = 0; r < rows; ++r) {
      const TileRow<Sum> row = RowOf(t.s, steps, r);
      Mask(b.first_pos + static_cast<int>(r / s.group), visible, spec, row);
      const Sum sink = sink_of(r), largest = LargestScore(row, Count(visible), s.scale, sink);
      const Sum of_keys =
          PackWeights<To, T>(row, Count(visible), s.scale, largest, s.kernel.RowOf(t.packed, rows, keys, r));
      const Sum sum = sink == kNothing<Sum> ? of_keys : of_keys + Exp(sink - largest);
      lse[HeadOf(s, b, g, r)] = largest + std::log(sum);
      t.lse[r] = Sum(1) / sum;
    }
  });
  MultiplyValues(s, tiles, visible, g, rows, t.packed, t.o);
  const std::int64_t D = s.D;
  for (std::int64_t r = 0; r < rows; ++r) {
    T* to = out + HeadOf(s, b, g, r) * s.D;
    // + 0 makes one zero of two: keys that weigh nothing may or may not have turned -0 into 0.
    const Sum *from = t.o + r * s.width, inverse = t.lse[r];
    for (std::int64_t d = 0; d < D; ++d) to[d] = static_cast<T>(from[d] * inverse + Sum(0));
  }
}

// The forward of all blocks and key heads; any thread takes any of them. `in` is of either kind of inputs;
// tiles_of(owner) gives the keys.
template <class T, class Inputs, class F>
void ForwardBlocks(const Context& ctx, const Shape<T>& s, const Tensor& out, const Tensor& lse, const Inputs& in,
                   const Block* blocks, std::int64_t count, F&& tiles_of) {
  const T* sinks = in.sink_logits.empty() ? nullptr : in.sink_logits.template data<T>();
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
  ForTasks(ThreadsFor(ctx, work), count * s.G, [&](int thread, std::int64_t task) {
    const Block& b = blocks[task / s.G];
    ForwardBlock(s, b, tiles_of(b.owner), task % s.G, SpecOfRow(in, b.row), in.q.template data<T>(), sinks,
                 scratch[thread], out.data<T>(), lse.data<Accumulator<T>>());
  });
}

// dout . out of one query and head.
template <class T>
Accumulator<T> Delta(const T* dout, const T* out, std::int64_t D) {
  using Sum = Accumulator<T>;
  return LaneSum<Sum>(D, [&](std::int64_t d) { return Sum(dout[d]) * Sum(out[d]); });
}

// The backward of one document and key head, by one thread. dk and dv are sums, tile after tile of [D, kKeyTile], which
// are added to the gradients at the end.
template <class T>
struct BackwardTask {
  using Sum = Accumulator<T>;
  const Shape<T>& s;
  const Scratch<T>& t;
  AttentionSpec spec;
  std::int64_t g;
  Tiles<T> keys, values;  // keys both ways, values as columns
  Sum *dk, *dv;
  bool fresh_dq;

  // sums += x^T w over the block's rows, for the visible tiles; x [rows, D], w [tiles, rows, kKeyTile]. A tile of w is
  // a panel as it is, unless rows stand in pairs there.
  void AddTransposed(const VisibleKeys& visible, std::int64_t rows, const T* x, const T* w, Sum* sums) const {
    PackRows(s.kernel, Strided<T>{x, 1, s.D}, s.D, rows, t.packed);
    for (const KeyRange range : {visible.sinks, visible.recent}) {
      for (int tile = range.begin; tile < range.end; ++tile, w += ScoreSteps::ByTile(rows).tile) {
        const T* panel = w;
        if constexpr (kPairing<T> != 1) {
          PackPanel(Strided<T>{w, kKeyTile, 1}, rows, kKeyTile, t.panel);
          panel = t.panel;
        }
        MultiplyPanels(s.kernel, s.D, 1, rows, t.packed, panel, 0, /*accumulate=*/true, sums + tile * s.D * kKeyTile,
                       kKeyTile);
      }
    }
  }

  // Turns the scores and their e_j = dout . v_j into weights and their gradients, which are packed too.
  void WeightRows(const Block& b, const VisibleKeys& visible, std::int64_t rows) const {
    const std::int64_t tiles = Count(visible);
    const ScoreSteps steps = ScoreSteps::ByTile(rows);
    WithPacked(s.kernel, [&]<class To>() {
      for (std::int64_t r = 0; r < rows; ++r) {
        const TileRow<Sum> scores = RowOf(t.s, steps, r);
        Mask(b.first_pos + static_cast<int>(r / s.group), visible, spec, scores);
        PackWeightGradients<To, T>(scores, RowOf(t.ds, steps, r), tiles, s.scale, t.lse[r], t.delta[r],
                                   RowOf(t.p, steps, r), RowOf(t.dp, steps, r),
                                   s.kernel.RowOf(t.packed, rows, tiles * kKeyTile, r));
      }
    });
  }

  void Run(const Block& b, const T* q, const T* dout, const T* out, const Sum* lse, T* dq) const {
    const VisibleKeys visible = VisibleTilesOf(b.first_pos, b.last_pos(), spec);
    const std::int64_t rows = b.count * s.group;
    if (Count(visible) == 0) {
      for (std::int64_t r = 0; dq && fresh_dq && r < rows; ++r) std::fill_n(dq + HeadOf(s, b, g, r) * s.D, s.D, T());
      return;
    }
    Gather(s, b, g, q, t.q);
    Gather(s, b, g, dout, t.dout);
    for (std::int64_t r = 0; r < rows; ++r) {
      t.delta[r] = Delta(t.dout + r * s.D, out + HeadOf(s, b, g, r) * s.D, s.D);
      t.lse[r] = lse[HeadOf(s, b, g, r)];
    }
    const ScoreSteps steps = ScoreSteps::ByTile(rows);
    MultiplyKeys(s, keys, visible, g, rows, t.q, t.packed, t.s, steps);
    MultiplyKeys(s, values, visible, g, rows, t.dout, t.packed, t.ds, steps);
    WeightRows(b, visible, rows);
    MultiplyValues(s, keys, visible, g, rows, t.packed, t.o);
    AddTransposed(visible, rows, t.dout, t.p, dv);
    AddTransposed(visible, rows, t.q, t.dp, dk);
    for (std::int64_t r = 0; dq && r < rows; ++r) {
      const Sum* from = t.o + r * s.width;
      WriteGradient(fresh_dq, s.D, dq + HeadOf(s, b, g, r) * s.D, [&](std::int64_t d) { return from[d]; });
    }
  }
};

// to[j, d] = from[d, j] for a tile of keys j.
template <class Sum>
void TransposeTile(std::int64_t D, const Sum* from, Sum* to) {
#ifdef __AVX512F__
  if constexpr (sizeof(Sum) == sizeof(Word)) {
    const WordRows rows{reinterpret_cast<const Word*>(from), kKeyTile};
    return Transpose(rows, D, kKeyTile, reinterpret_cast<Word*>(to), D, D);
  }
#endif
  for (std::int64_t d = 0; d < D; ++d) {
    for (int j = 0; j < kKeyTile; ++j) to[j * D + d] = from[d * kKeyTile + j];
  }
}

// Adds a document's sums, tile after tile of [D, kKeyTile], to head g of grad [length, G, D]. A tile fits into `tile`.
template <class T>
void AddHead(const Shape<T>& s, std::int64_t g, std::int64_t length, const Accumulator<T>* sums, Accumulator<T>* tile,
             bool fresh, T* grad) {
  for (std::int64_t j = 0; j < length; ++j) {
    if (j % kKeyTile == 0) TransposeTile(s.D, sums + j * s.D, tile);
    const Accumulator<T>* from = tile + j % kKeyTile * s.D;
    WriteGradient(fresh, s.D, grad + (j * s.G + g) * s.D, [&](std::int64_t d) { return from[d]; });
  }
}

// dsink_h -= sum over the queries n of exp(sink_h - lse[n, h]) delta[n, h], ascending. One thread takes a head whole.
template <class T>
void AddSinkGradients(const Context& ctx, const Tensor& to, const Tensor& dout, const Tensor& out, const Tensor& lse,
                      const Tensor& sinks) {
  using Sum = Accumulator<T>;
  const std::int64_t N = out.dim(0), H = out.dim(1), D = out.dim(2);
  ForRows(ctx, H, N * D, [&](std::int64_t h) {
    const Sum sink = Sum(sinks.data<T>()[h]);
    Sum sum = 0;
    for (std::int64_t row = h; row < N * H; row += H) {
      sum += Exp(sink - lse.data<Sum>()[row]) * Delta(dout.data<T>() + row * D, out.data<T>() + row * D, D);
    }
    to.data<Sum>()[h] -= sum;
  });
}

}  // namespace

template <>
void AttentionKernels<SWARR_SET>::Forward(const Context& ctx, const Tensor& out, const Tensor& lse,
                                          const AttentionInputs& in) {
  const Tensor &q = in.q, &documents = in.documents;
  Dispatch(q.dtype(), [&]<class T>() {
    const Shape<T> s = ShapeOf<T>(ctx, q.dim(1), in.k.dim(1), q.dim(2));
    ArenaScope scope(*ctx.arena);
    const DocumentTiles<T> keys(ctx, s, in.k, documents, true, false), values(ctx, s, in.v, documents, false, true);
    Block* blocks = ctx.arena->NewArray<Block>(q.dim(0));
    const std::int32_t* first_row = documents.data<std::int32_t>();
    std::int64_t d = 0;
    const auto owner = [&](std::int64_t n) {
      while (n >= first_row[d + 1]) ++d;
      return d;
    };
    const std::int64_t count = CutBlocks(in.q_pos, s.block_queries, owner, blocks);
    ForwardBlocks(ctx, s, out, lse, in, blocks, count, [&](std::int64_t document) {
      Tiles<T> tiles = keys.Of(s, document);
      tiles.rows = values.Of(s, document).rows;
      return tiles;
    });
  });
}

// With p_j = exp(scale q.k_j - lse) and delta = dout . out = sum_j p_j (dout . v_j):
//   dv_j += p_j dout;   ds_j = scale p_j (dout . v_j - delta);   dq += ds_j k_j;   dk_j += ds_j q.
// A learned sink is in lse, and its own weight times -delta is its gradient, since it has no value.
template <>
void AttentionKernels<SWARR_SET>::Backward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout,
                                           const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  const Tensor &q = in.q, &documents = in.documents, &dq = gradients.dq, &dk = gradients.dk, &dv = gradients.dv;
  Dispatch(q.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const Shape<T> s = ShapeOf<T>(ctx, q.dim(1), in.k.dim(1), q.dim(2));
    ArenaScope scope(*ctx.arena);
    if (const Tensor& to = gradients.dsink_logits; !to.empty()) {
      AddSinkGradients<T>(ctx, to, dout, out, lse, in.sink_logits);
    }
    const DocumentTiles<T> keys(ctx, s, in.k, documents, true, true), values(ctx, s, in.v, documents, true, false);
    const std::int32_t* first_row = documents.data<std::int32_t>();
    const std::int64_t docs = documents.dim(0) - 1;
    if (docs == 0) return;
    const int threads = static_cast<int>(std::min<std::int64_t>(ctx.threads, docs * s.G));
    std::int64_t longest = 0;
    for (std::int64_t d = 0; d < docs; ++d) longest = std::max<std::int64_t>(longest, keys.Of(s, d).count);
    const std::int64_t most =
        CacheTiles(in.spec, static_cast<int>(longest) * kKeyTile, static_cast<int>(s.block_queries));
    struct Work {
      Scratch<T> scratch;
      Block* blocks;
      Sum *dk, *dv;
    };
    Work* works = ctx.arena->NewArray<Work>(threads);
    const std::int64_t rows = longest * kKeyTile, sums = rows * s.D;
    for (int i = 0; i < threads; ++i) {
      new (&works[i]) Work{.scratch = {*ctx.arena, s, s.block_rows, most * kKeyTile, true},
                           .blocks = ctx.arena->NewArray<Block>(rows),
                           .dk = ctx.arena->NewArray<Sum>(sums),
                           .dv = ctx.arena->NewArray<Sum>(sums)};
    }
    ForTasks(threads, docs * s.G, [&](int thread, std::int64_t task) {
      const std::int64_t d = task / s.G, g = task % s.G, length = first_row[d + 1] - first_row[d];
      const Work& w = works[thread];
      const std::int64_t used = keys.Of(s, d).count * kKeyTile * s.D;
      std::fill_n(w.dk, used, Sum(0));
      std::fill_n(w.dv, used, Sum(0));
      const AttentionSpec spec = length > 0 ? SpecOfRow(in, first_row[d]) : in.spec;
      const BackwardTask<T> backward{s, w.scratch, spec, g, keys.Of(s, d), values.Of(s, d), w.dk, w.dv, dq.fresh()};
      const std::int64_t count = CutBlocks(
          in.q_pos.Rows(first_row[d], first_row[d + 1]), s.block_queries, [](std::int64_t) { return std::int64_t{0}; },
          w.blocks);
      for (std::int64_t i = 0; i < count; ++i) {
        Block block = w.blocks[i];
        block.row += first_row[d];
        backward.Run(block, q.data<T>(), dout.data<T>(), out.data<T>(), lse.data<Sum>(),
                     dq.empty() ? nullptr : dq.data<T>());
      }
      const std::int64_t first = first_row[d] * s.G * s.D;
      if (!dk.empty()) AddHead(s, g, length, w.dk, w.scratch.o, dk.fresh(), dk.data<T>() + first);
      if (!dv.empty()) AddHead(s, g, length, w.dv, w.scratch.o, dv.fresh(), dv.data<T>() + first);
    });
  });
}

template <>
void AttentionKernels<SWARR_SET>::StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v,
                                            const Tensor& positions, const Tensor& slots, const Tensor& lengths) {
  Dispatch(k.dtype(), [&]<class T>() {
    const Shape<T> s = ShapeOf<T>(ctx, k.dim(1), k.dim(1), k.dim(2));
    ForRows(ctx, k.dim(0), 4 * s.G * s.D, [&](std::int64_t n) {
      const std::int64_t slot = slots.data<std::int32_t>()[n];
      const int position = positions.data<std::int32_t>()[n], lane = position % kKeyTile;
      const bool held = lengths.empty() || CacheHolds(position / kKeyTile, lengths.data<std::int32_t>()[n],
                                                      cache.sink_tiles(), cache.ring());
      if (slot < 0 || !held) return;
      const Tiles<T> tiles = SlotTiles(s, cache, slot);
      for (std::int64_t g = 0; g < s.G; ++g) {
        const T *key = k.data<T>() + (n * s.G + g) * s.D, *value = v.data<T>() + (n * s.G + g) * s.D;
        T* column = tiles.Columns(s, g, position / kKeyTile) + PanelIndex<T>(0, lane);
        for (std::int64_t d = 0; d < s.D; ++d) column[PanelIndex<T>(d, 0)] = key[d];
        for (std::int64_t c = 0; c < s.value_panels; ++c, value += kPanel) {
          T* row = tiles.Rows(s, g, c, position / kKeyTile) + PanelIndex<T>(lane, 0);
          const std::int64_t width = std::min(kPanel, s.D - c * kPanel);
          for (std::int64_t j = 0; j < width; ++j) row[j * kPairing<T>] = value[j];
        }
      }
    });
  });
}

template <>
void AttentionKernels<SWARR_SET>::CachedForward(const Context& ctx, const Tensor& out, const Tensor& lse,
                                                const CachedAttentionInputs& in) {
  const Tensor& q = in.q;
  const KeyCache& cache = in.cache;
  Dispatch(q.dtype(), [&]<class T>() {
    const Shape<T> s = ShapeOf<T>(ctx, q.dim(1), cache.k().dim(1), q.dim(2));
    ArenaScope scope(*ctx.arena);
    Block* blocks = ctx.arena->NewArray<Block>(q.dim(0));
    const auto owner = [&](std::int64_t n) { return std::int64_t{in.slots.data<std::int32_t>()[n]}; };
    const std::int64_t count = CutBlocks(in.q_pos, s.block_queries, owner, blocks);
    ForwardBlocks(ctx, s, out, lse, in, blocks, count, [&](std::int64_t slot) { return SlotTiles(s, cache, slot); });
  });
}

}  // namespace swarr
