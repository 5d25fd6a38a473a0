// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Attention over tiles of keys, as four kinds of products with one row operation between them. A block holds queries of
// one document and one key head, up to kQueryBlock rows: the heads of each query that share the key head. It takes the
// visible tiles together. A key that one of its queries does not see weighs exactly 0 there, and adding 0 leaves a sum
// as it is. So a query's bits do not depend on the queries in its block: alone in decoding, or many in training.
#include <cstring>

#include "attn/kernels/forward_blocks.h"
#include "attn/kernels/own_tiles.h"
#include "attn/kernels/scratch.h"
#include "attn/kernels/tile_products.h"
#include "attn/kernels/weights.h"

namespace swarr {
namespace {

template <class T>
Shape<T> ShapeOf(const Context& ctx, std::int64_t H, std::int64_t G, std::int64_t D) {
  return {.H = H, .G = G, .D = D, .kernel = TileKernelOf<SWARR_SET, T>(ctx.cpu)};
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
  std::int64_t g, first_row, length;
  const T *k, *v;                     // of the head
  OwnTiles<T>&own_keys, &own_values;  // keys both ways, values as columns
  Sum *dk, *dv;
  bool fresh_dq;

  // sums += x^T w over the block's rows, for the visible tiles; x [rows, D], w [tiles, rows, kKeyTile]. A tile of w is
  // a panel as it is, unless rows stand in pairs there.
  void AddTransposed(const VisibleKeys& visible, std::int64_t rows, Strided<T> x, const T* w, Sum* sums) const {
    const BlockRows<T> columns = PackOrReadInPlace(s.kernel, Strided<T>{x.data, 1, x.row_stride}, s.D, rows, t.packed);
    for (const KeyRange range : {visible.sinks, visible.recent}) {
      for (int tile = range.begin; tile < range.end; ++tile, w += ScoreSteps::ByTile(rows).tile) {
        const T* panel = w;
        if constexpr (kPairing<T> != 1) {
          PackPanel(Strided<T>{w, kKeyTile, 1}, rows, kKeyTile, t.panel);
          panel = t.panel;
        }
        MultiplyPanels(s.kernel, columns, 0, s.D, 1, rows, {panel}, /*accumulate=*/true, sums + tile * s.D * kKeyTile,
                       kKeyTile);
      }
    }
  }

  // Turns the scores and their e_j = dout . v_j into weights and their gradients, which are packed too.
  // fetch(r) is called for every row, once.
  template <class F>
  void WeightRows(const BlockSight& sight, std::int64_t rows, const F& fetch) const {
    const std::int64_t keys = sight.keys();
    const ScoreSteps steps = ScoreSteps::ByTile(rows);
    WithPacked(s.kernel, [&]<class To>() {
      ForRowsTogether<T>(s.kernel, rows, sight, [&]<int kRows>(std::int64_t r, const VisibleKeys& units) {
        Sum row_lse[kRows];
        for (int i = 0; i < kRows; ++i) {
          row_lse[i] = t.lse[r + i];
          Mask<T>(sight.SeenBy(r + i), units, t.s, steps, r + i);
          Clear(units, keys, t.p, steps, r + i);
          Clear(units, keys, t.dp, steps, r + i);
          fetch(r + i);
        }
        PackWeightGradients<To, T>(t.s, t.ds, steps, r, units, s.scale, row_lse, t.delta, t.p, t.dp,
                                   s.kernel.RowOf(t.packed, rows, keys, r));
      });
    });
  }

  // `next` is the block that comes next, or null.
  void Run(const Block& b, const Block* next, const T* q, const T* dout, const T* out, const Sum* lse, T* dq) const {
    const BlockSight sight(b, s.group, spec);
    const std::int64_t rows = b.count * s.group;
    if (sight.keys() == 0) {
      for (std::int64_t r = 0; dq && fresh_dq && r < rows; ++r) std::fill_n(dq + HeadOf(s, b, g, r) * s.D, s.D, T());
      return;
    }
    const Strided<T> queries = RowsOf(s, b, g, q, t.q), gradients = RowsOf(s, b, g, dout, t.dout);
    for (std::int64_t r = 0; r < rows; ++r) {
      t.delta[r] = Delta(gradients.From(r, 0).data, out + HeadOf(s, b, g, r) * s.D, s.D);
      t.lse[r] = lse[HeadOf(s, b, g, r)];
    }
    const ScoreSteps steps = ScoreSteps::ByTile(rows);
    const Tiles<T>&keys = own_keys.Of(s, k, length, sight.tiles), &values = own_values.Of(s, v, length, sight.tiles);
    MultiplyKeys(s, keys, sight.tiles, rows, queries, t.packed, t.s, steps);
    MultiplyKeys(s, values, sight.tiles, rows, gradients, t.packed, t.ds, steps);
    WeightRows(
        sight, rows, [&](std::int64_t r) __attribute__((always_inline)) {
          if (!next || r >= next->count * s.group) return;
          const std::int64_t at = HeadOf(s, *next, g, r) * s.D;
          for (const T* x : {q, dout, out}) Fetch(s, x + at);
          if (dq) Fetch(s, dq + at);
          if (r % s.group != 0) return;
          const std::int64_t key = (next->row - first_row + r / s.group) * s.G * s.D;
          for (const T* x : {k, v}) Fetch(s, x + key);
        });
    MultiplyValues(s, keys, sight, rows, t.packed, t.o);
    AddTransposed(sight.tiles, rows, gradients, t.p, dv);
    AddTransposed(sight.tiles, rows, queries, t.dp, dk);
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

// Adds a document's sums, tile after tile of [D, kKeyTile], to its head of a gradient [length, G, D]. A tile fits into
// `tile`.
template <class T>
void AddHead(const Shape<T>& s, std::int64_t length, const Accumulator<T>* sums, Accumulator<T>* tile, bool fresh,
             T* grad) {
  for (std::int64_t j = 0; j < length; ++j) {
    if (j % kKeyTile == 0) TransposeTile(s.D, sums + j * s.D, tile);
    const Accumulator<T>* from = tile + j % kKeyTile * s.D;
    WriteGradient(fresh, s.D, grad + j * s.G * s.D, [&](std::int64_t d) { return from[d]; });
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
    const int kept = KeptTiles(s, in.spec, documents);
    struct Work {
      OwnTiles<T> keys, values;
    };
    Work* works = ctx.arena->NewArray<Work>(ctx.threads);
    for (int i = 0; i < ctx.threads; ++i) {
      new (&works[i]) Work{{*ctx.arena, s, in.spec, kept, true, false}, {*ctx.arena, s, in.spec, kept, false, true}};
    }
    Block* blocks = ctx.arena->NewArray<Block>(q.dim(0));
    const std::int32_t* first_row = documents.data<std::int32_t>();
    std::int64_t d = 0;
    const auto owner = [&](std::int64_t n) {
      while (n >= first_row[d + 1]) ++d;
      return d;
    };
    const std::int64_t count = CutBlocks(in.q_pos, s.block_queries, owner, blocks);
    ForwardBlocks(ctx, s, out, lse, in, blocks, count, [&](int thread, const Block& b, std::int64_t g) {
      const VisibleKeys visible = VisibleTilesOf(b.first_pos, b.last_pos(), SpecOfRow(in, b.row));
      const std::int64_t first = first_row[b.owner], length = first_row[b.owner + 1] - first, at = first * s.G + g;
      Tiles<T> tiles = works[thread].keys.Of(s, in.k.data<T>() + at * s.D, length, visible);
      tiles.rows = works[thread].values.Of(s, in.v.data<T>() + at * s.D, length, visible).rows;
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
    const std::int32_t* first_row = documents.data<std::int32_t>();
    const std::int64_t docs = documents.dim(0) - 1;
    if (docs == 0) return;
    const int threads = static_cast<int>(std::min<std::int64_t>(ctx.threads, docs * s.G));
    const int kept = KeptTiles(s, in.spec, documents);
    struct Work {
      OwnTiles<T> keys, values;
      Scratch<T> scratch;
      Block* blocks;
      Sum *dk, *dv;
    };
    Work* works = ctx.arena->NewArray<Work>(threads);
    const std::int64_t rows = std::int64_t{LongestTiles(documents)} * kKeyTile, sums = rows * s.D;
    for (int i = 0; i < threads; ++i) {
      new (&works[i]) Work{.keys = {*ctx.arena, s, in.spec, kept, true, true},
                           .values = {*ctx.arena, s, in.spec, kept, true, false},
                           .scratch = {*ctx.arena, s, s.block_rows, std::int64_t{kept} * kKeyTile, true},
                           .blocks = ctx.arena->NewArray<Block>(rows),
                           .dk = ctx.arena->NewArray<Sum>(sums),
                           .dv = ctx.arena->NewArray<Sum>(sums)};
    }
    ForTasks(threads, docs * s.G, [&](int thread, std::int64_t task) {
      const std::int64_t d = task / s.G, g = task % s.G, length = first_row[d + 1] - first_row[d];
      Work& w = works[thread];
      const std::int64_t used = std::int64_t{TilesOf(static_cast<int>(length))} * kKeyTile * s.D;
      std::fill_n(w.dk, used, Sum(0));
      std::fill_n(w.dv, used, Sum(0));
      const AttentionSpec spec = length > 0 ? SpecOfRow(in, first_row[d]) : in.spec;
      const std::int64_t first = (first_row[d] * s.G + g) * s.D;
      const BackwardTask<T> backward{
          s,      w.scratch, spec, g,    first_row[d], length, in.k.data<T>() + first, in.v.data<T>() + first,
          w.keys, w.values,  w.dk, w.dv, dq.fresh()};
      const std::int64_t count = CutBlocks(
          in.q_pos.Rows(first_row[d], first_row[d + 1]), s.block_queries, [](std::int64_t) { return std::int64_t{0}; },
          w.blocks);
      for (std::int64_t i = 0; i < count; ++i) w.blocks[i].row += first_row[d];
      for (std::int64_t i = 0; i < count; ++i) {
        backward.Run(w.blocks[i], i + 1 < count ? &w.blocks[i + 1] : nullptr, q.data<T>(), dout.data<T>(),
                     out.data<T>(), lse.data<Sum>(), dq.empty() ? nullptr : dq.data<T>());
      }
      if (!dk.empty()) AddHead(s, length, w.dk, w.scratch.o, dk.fresh(), dk.data<T>() + first);
      if (!dv.empty()) AddHead(s, length, w.dv, w.scratch.o, dv.fresh(), dv.data<T>() + first);
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
      for (std::int64_t g = 0; g < s.G; ++g) {
        const Tiles<T> tiles = SlotTiles(s, cache, slot, g);
        const T *key = k.data<T>() + (n * s.G + g) * s.D, *value = v.data<T>() + (n * s.G + g) * s.D;
        T* column = tiles.Columns(s, position / kKeyTile) + PanelIndex<T>(0, lane);
        constexpr std::int64_t kPair = kPairing<T>;
        const std::int64_t paired = s.D / kPair * kPair;
        for (std::int64_t d = 0; d < paired; d += kPair) std::memcpy(column + d * kPanel, key + d, kPair * sizeof(T));
        for (std::int64_t d = paired; d < s.D; ++d) column[PanelIndex<T>(d, 0)] = key[d];
        for (std::int64_t c = 0; c < s.value_panels; ++c, value += kPanel) {
          T* row = tiles.Rows(s, c, position / kKeyTile) + PanelIndex<T>(lane, 0);
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
    ForwardBlocks(ctx, s, out, lse, in, blocks, count,
                  [&](int, const Block& b, std::int64_t g) { return SlotTiles(s, cache, b.owner, g); });
  });
}

}  // namespace swarr
