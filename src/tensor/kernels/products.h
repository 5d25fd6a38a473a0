// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// Products cut into pieces for threads and caches, alone or several together.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "tensor/kernels/panels.h"
#include "tensor/kernels/rows.h"
#include "tensor/linears.h"

namespace swarr {
namespace {

// Rows that a task multiplies panel after panel, and the most panels that a kernel takes at once.
constexpr std::int64_t kRowBlock = 128, kMostPanels = 2;
// Rows of k whose sums are finished before others are begun. Each time c goes through memory once, so they are many;
// but b is packed for all of them, and often so are rows of a, which then should stay in the second-level cache. A
// result that is rounded when it is stored can't be taken up again: there it is the whole depth.
constexpr std::int64_t kDepthChunk = 1024;
// Rows of k of a chunk that are multiplied with all rows of a block before the next, so that those of the panels that a
// kernel takes at once stay in the first-level cache.
template <class T>
std::int64_t DepthBlock(const TileKernel<T>& kernel) {
  return (kDTypeOf<T> == DType::kBF16 ? 512 : 256) / kernel.panels;
}

// A product to compute: c[rows, columns] = a[rows, depth] b[depth, columns] + bias + addend. Out is T or its
// accumulator.
template <class T, class Out>
struct Task {
  std::int64_t rows, columns, depth;
  Strided<T> a;
  Strided<T> b;
  PanelView<T> packed;  // b as panels of all its rows, if it is kept so
  const T* bias;        // [columns] or null
  const Out* addend;    // [rows, columns] or null; c itself to accumulate
  Out* c;
};

// Adds bias and addend to n sums, and stores them to `to`, rounded if that is narrower. The addend may be `to`.
template <bool kBias, bool kAddend, class T, class Out, class Sum = Accumulator<T>>
[[gnu::always_inline]] inline void StoreNumbers(std::int64_t n, const Sum* sums, const T* bias, const Out* addend,
                                                Out* to) {
#pragma GCC ivdep
  for (std::int64_t j = 0; j < n; ++j) {
    Sum sum = sums[j];
    if constexpr (kBias) sum += static_cast<Sum>(bias[j]);
    if constexpr (kAddend) sum += static_cast<Sum>(addend[j]);
    to[j] = static_cast<Out>(sum);
  }
}

// The same of sums [rows, columns] of a task. Whole panels are so many vectors.
template <bool kBias, bool kAddend, class T, class Out>
void StoreRows(const Task<T, Out>& task, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
               const Accumulator<T>* sums, std::int64_t stride) {
  const std::int64_t width = task.columns, at = row * width + column;
  const T* bias = kBias ? task.bias + column : nullptr;
  const Out* addend = kAddend ? task.addend + at : nullptr;
  Out* to = task.c + at;
  for (std::int64_t i = 0; i < rows; ++i, sums += stride, to += width) {
    const auto store = [&](std::int64_t j, std::int64_t n) __attribute__((always_inline)) {
      StoreNumbers<kBias, kAddend, T>(n, sums + j, bias + (kBias ? j : 0), addend + (kAddend ? j : 0), to + j);
    };
    std::int64_t j = 0;
    for (; j + kPanel <= columns; j += kPanel) store(j, kPanel);
    if (j < columns) store(j, columns - j);
    if constexpr (kAddend) addend += width;
  }
}

template <class T, class Out>
void StoreSums(const Task<T, Out>& task, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
               const Accumulator<T>* sums, std::int64_t stride) {
  const auto store = task.bias     ? task.addend ? StoreRows<true, true, T, Out> : StoreRows<true, false, T, Out>
                         : task.addend ? StoreRows<false, true, T, Out>
                                   : StoreRows<false, false, T, Out>;
  store(task, row, rows, column, columns, sums, stride);
}

// Rows [row, row + rows) times `panels` panels, of which `b` is the chunk at k0. If c holds accumulators, they start
// from the addend and go on from chunk to chunk: a float stored and loaded again is the same float, so blocking leaves
// no trace in the bits. Else the whole depth is one chunk, and the addend is added to its sum. `ahead` is what comes
// after it. The tiles of fewer rows are too few to ask for all panels, and parts of them mislead the processor's own
// guesses.
template <class T, class Out>
void MultiplyChunk(const TileKernel<T>& kernel, const Task<T, Out>& task, std::int64_t row, std::int64_t rows,
                   std::int64_t column, std::int64_t panels, std::int64_t k0, std::int64_t depth, const BlockRows<T>& a,
                   const PanelView<T>& b, const Ahead<T>& ahead) {
  using Sum = Accumulator<T>;
  const std::int64_t width = panels * kPanel, columns = std::min(width, task.columns - column);
  const auto multiply = [&](bool accumulate, Sum* c, std::int64_t c_stride) {
    const std::int64_t block = DepthBlock(kernel);
    for (std::int64_t k = 0; k < depth; k += block) {
      const PanelView<T> next = k + block < depth ? b.From(0, k + block) : ahead.panels;
      MultiplyPanels(kernel, a, k, rows, panels, std::min(block, depth - k), b.From(0, k), accumulate || k > 0, c,
                     c_stride, rows == kRowBlock ? Ahead<T>{ahead.rows, next} : Ahead<T>{});
    }
  };
  constexpr bool kSums = std::is_same_v<Out, Sum>;
  const bool last = k0 + depth == task.depth;
  const Out* begin = nullptr;  // what the sums go on from
  if constexpr (kSums) {
    const std::int64_t at = row * task.columns + column;
    begin = k0 > 0 ? task.c + at : (task.addend ? task.addend + at : nullptr);
    if (columns == width && !(last && task.bias)) {
      for (std::int64_t i = 0; begin && begin != task.c + at && i < rows; ++i) {
        const Out* __restrict from = begin + i * task.columns;
        Out* __restrict to = task.c + at + i * task.columns;
        for (std::int64_t j = 0; j < width; ++j) to[j] = from[j];
      }
      return multiply(begin != nullptr, task.c + at, task.columns);
    }
  }
  alignas(64) Sum sums[kMostPanels * kRowBlock * kPanel];
  for (std::int64_t i = 0; begin && i < rows; ++i) {
    const Out* from = begin + i * task.columns;
    for (std::int64_t j = 0; j < width; ++j) sums[i * width + j] = j < columns ? static_cast<Sum>(from[j]) : Sum(0);
  }
  multiply(begin != nullptr, sums, width);
  Task<T, Out> store = task;
  if (!last) store.bias = nullptr;
  if (kSums) store.addend = nullptr;
  StoreSums(store, row, rows, column, columns, sums, width);
}

// One thread does up to this many multiply-adds times the bytes of a number sooner than two would meet, in all products
// that are computed together. With one row these are the bytes of b.
constexpr std::int64_t kSmall = 131072;
// The fewest multiply-adds of a piece that another thread may take.
constexpr std::int64_t kSmallPiece = 65536;

// Panels that a block of rows is multiplied with at a time: several of few rows, whose sums take no more room.
template <class T>
std::int64_t PanelsAtATime(const TileKernel<T>& kernel, std::int64_t rows) {
  return rows <= 16 ? 4 : kernel.panels;
}

// Products that are computed together. Stacked: they share b and the depth, and their rows stand one after another.
// Else they share the number of rows, and a block of rows takes one after another, so that they may add to the same c.
template <class T, class Out>
struct Products {
  std::span<const Task<T, Out>> tasks;
  bool stacked = false;
};

// Groups that panels are cut into, whole pairs, so that `row_blocks` times as many pieces are several for each thread.
// A thread that is slower than another then leaves it some (ForShares). A piece has kSmallPiece or more.
std::int64_t PanelGroups(std::int64_t row_blocks, std::int64_t panels, std::int64_t work, int threads) {
  constexpr std::int64_t kPiecesOfAThread = 8;
  if (threads == 1) return 1;
  const std::int64_t wanted = CeilDiv(kPiecesOfAThread * threads, row_blocks),
                     most = std::max<std::int64_t>(work / kSmallPiece / row_blocks, CeilDiv(threads, row_blocks));
  return std::clamp<std::int64_t>(std::min(wanted, most), 1, CeilDiv(panels, kMostPanels));
}

// Chunks of k follow one another. Within a chunk, pieces are blocks of rows times groups of panels: their number
// depends on the threads, what each computes does not.
template <class T, class Out>
class Gemm {
 public:
  Gemm(const Context& ctx, const TileKernel<T>& kernel, Products<T, Out> products)
      : ctx_(ctx), kernel_(kernel), products_(products), scope_(*ctx.arena) {
    bool packs = false;  // rows of a
    std::int64_t work = 0, most_rows = 0, fewest_panels = Panels(0);
    for (std::size_t i = 0; i < Count(); ++i) {
      const Task<T, Out>& task = TaskAt(i);
      work += task.rows * task.columns * task.depth;
      depth_ = std::max(depth_, task.depth);
      packs |= task.a.column_stride != 1 || !kernel.MayReadInPlace(task.depth);
      most_rows = std::max(most_rows, task.rows);
      fewest_panels = std::min(fewest_panels, Panels(i));
      row_blocks_ = products.stacked ? row_blocks_ + RowBlocks(i) : RowBlocks(i);
    }
    constexpr bool kRounds = !std::is_same_v<Out, Accumulator<T>>;
    chunk_ = kRounds || (Count() > 1 && !products.stacked) ? depth_ : std::min(depth_, kDepthChunk);
    threads_ = work * static_cast<std::int64_t>(sizeof(T)) > kSmall ? ctx.threads : 1;
    groups_ = PanelGroups(row_blocks_, fewest_panels, work, threads_);
    parts_ = PartsFor(threads_, row_blocks_ * groups_);
    const std::int64_t scratch_bytes =
        packs ? RoundUp(BlockBytes(kernel, std::min(most_rows, kRowBlock), chunk_), 64) : 0;
    packed_ = ctx.arena->NewArray<PackedRows>(parts_);
    std::byte* scratch = ctx.arena->NewArray<std::byte>(parts_ * scratch_bytes);
    for (int part = 0; part < parts_; ++part) packed_[part].scratch = scratch + part * scratch_bytes;
    for (std::size_t i = 0; i < Count(); ++i) {
      if (PacksPanels(i)) chunks_[i] = ctx.arena->NewArray<T>(Panels(i) * PanelDepth<T>(ChunkDepth(i, 0)) * kPanel);
    }
  }

  void Run() {
    for (std::int64_t k0 = 0; k0 < depth_; k0 += chunk_) {
      PackAllPanels(k0);
      for (int part = 0; part < parts_; ++part) packed_[part].a = nullptr;
      ForShares(parts_, row_blocks_ * groups_, [&](int part, std::int64_t piece) {
        MultiplyPiece(piece / groups_, piece % groups_, k0, packed_[part]);
      });
    }
  }

 private:
  // Rows of an a that a thread has packed.
  struct PackedRows {
    std::byte* scratch;
    const T* a;
    BlockRows<T> rows;
  };

  std::size_t Count() const { return products_.tasks.size(); }
  const Task<T, Out>& TaskAt(std::size_t i) const { return products_.tasks[i]; }
  std::int64_t Panels(std::size_t i) const { return CeilDiv(TaskAt(i).columns, kPanel); }
  std::int64_t RowBlocks(std::size_t i) const { return CeilDiv(TaskAt(i).rows, kRowBlock); }
  std::int64_t ChunkDepth(std::size_t i, std::int64_t k0) const { return std::min(chunk_, TaskAt(i).depth - k0); }
  bool PacksPanels(std::size_t i) const { return !TaskAt(i).packed.data && (i == 0 || !products_.stacked); }

  // Packs the chunk at k0 of every b that is not kept packed.
  void PackAllPanels(std::int64_t k0) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < Count(); ++i) count += PacksPanels(i) ? Panels(i) : 0;
    if (count == 0) return;
    ForRanges(threads_, count, [&](std::int64_t begin, std::int64_t end) {
      for (std::size_t i = 0; i < Count(); ++i) {
        if (!PacksPanels(i)) continue;
        const std::int64_t panels = Panels(i), depth = ChunkDepth(i, k0);
        PackPanels(TaskAt(i).b.From(k0, 0), depth, TaskAt(i).columns, std::max<std::int64_t>(begin, 0),
                   std::min(end, panels), chunks_[i], PanelDepth<T>(depth) * kPanel);
        begin -= panels, end -= panels;
      }
    });
  }

  void MultiplyPiece(std::int64_t row_block, std::int64_t group, std::int64_t k0, PackedRows& rows) {
    if (!products_.stacked) {
      for (std::size_t i = 0; i < Count(); ++i) MultiplyTask(i, row_block, group, k0, rows);
      return;
    }
    std::size_t i = 0;
    for (; row_block >= RowBlocks(i); ++i) row_block -= RowBlocks(i);
    MultiplyTask(i, row_block, group, k0, rows);
  }

  void MultiplyTask(std::size_t i, std::int64_t row_block, std::int64_t group, std::int64_t k0, PackedRows& packed) {
    const Task<T, Out>& task = TaskAt(i);
    const std::int64_t row = row_block * kRowBlock, rows = std::min(kRowBlock, task.rows - row),
                       depth = ChunkDepth(i, k0), panels = Panels(i), pairs = CeilDiv(panels, kMostPanels),
                       end = std::min(panels, (group + 1) * pairs / groups_ * kMostPanels);
    const Strided<T> a = task.a.From(row, k0);
    const bool other_rows = packed.a != a.data;
    if (other_rows) {
      packed.rows = PackOrReadInPlace(kernel_, a, rows, depth, packed.scratch);
      packed.a = a.data;
    }
    const PanelView<T> b = task.packed.data
                               ? task.packed.From(0, k0)
                               : PanelView<T>{chunks_[products_.stacked ? 0 : i], PanelDepth<T>(depth) * kPanel};
    const std::int64_t step = PanelsAtATime(kernel_, rows), begin = group * pairs / groups_ * kMostPanels;
    for (std::int64_t p = begin; p < end; p += step) {
      const std::int64_t next = p + step < end ? p + step : begin;  // the latter for the next rows
      MultiplyChunk(kernel_, task, row, rows, p * kPanel, std::min(step, end - p), k0, depth, packed.rows, b.From(p, 0),
                    {other_rows && p == begin, b.From(next, 0)});
    }
  }

  const Context& ctx_;
  const TileKernel<T>& kernel_;
  const Products<T, Out> products_;
  ArenaScope scope_;
  std::int64_t depth_ = 0, chunk_ = 0;
  std::int64_t row_blocks_ = 0, groups_ = 0;
  int threads_ = 1, parts_ = 1;
  PackedRows* packed_ = nullptr;              // for each part
  std::array<T*, kMostLinears> chunks_ = {};  // for each b that is not kept packed, its present chunk
};

}  // namespace
}  // namespace swarr
