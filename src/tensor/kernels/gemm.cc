// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/panels.h"
#include "tensor/kernels/rows.h"
#include "tensor/packed_weights.h"

namespace swarr {
namespace {

// Rows that a task packs and multiplies with panel after panel.
constexpr std::int64_t kRowBlock = 128;
// Rows of k that are multiplied before the sums are stored to c, so that a block of a panel stays in the first-level
// cache. bf16 takes half the room and more rows at a time, and stays in the second. A result that is rounded when it is
// stored can't be taken up again: there the whole depth is one block.
template <class T>
constexpr std::int64_t kDepthBlock = kDTypeOf<T> == DType::kBF16 ? 1024 : 256;

// A product to compute: c[rows, columns] = a[rows, depth] b[depth, columns] + bias + addend. Out is T or its
// accumulator.
template <class T, class Out>
struct Task {
  std::int64_t rows, columns, depth;
  Strided<T> a;
  Strided<T> b;
  const T* packed;    // b as panels of all its rows, if it is kept so
  const T* bias;      // [columns] or null
  const Out* addend;  // [rows, columns] or null; c itself to accumulate
  Out* c;
};

template <class From, class Sum>
[[gnu::always_inline]] inline void AddTo(Sum* __restrict sums, const From* __restrict x, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) sums[j] += static_cast<Sum>(x[j]);
}

// Adds bias and addend to sums [rows, panels of columns], and stores them to c, rounded if c is narrower.
template <class T, class Out>
void StoreSums(const Task<T, Out>& task, std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns,
               Accumulator<T>* sums, std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; ++i, sums += stride) {
    const std::int64_t at = (row + i) * task.columns + column;
    if (task.bias) AddTo(sums, task.bias + column, columns);
    if (task.addend) AddTo(sums, task.addend + at, columns);
    Out* __restrict to = task.c + at;
    for (std::int64_t j = 0; j < columns; ++j) to[j] = static_cast<Out>(sums[j]);
  }
}

// Rows [row, row + rows) times `panels` panels, of which `b` is the block at k0. If c holds accumulators, they start
// from the addend and go on from block to block: a float stored and loaded again is the same float, so blocking leaves
// no trace in the bits. Else the whole depth is one block, and the addend is added to its sum.
template <class T, class Out>
void MultiplyBlock(const TileKernel<T>& kernel, const Task<T, Out>& task, std::int64_t row, std::int64_t rows,
                   std::int64_t column, std::int64_t panels, std::int64_t k0, std::int64_t depth, const std::byte* a,
                   const T* b, std::int64_t b_stride) {
  using Sum = Accumulator<T>;
  const std::int64_t width = panels * kPanel, columns = std::min(width, task.columns - column);
  constexpr bool kSums = std::is_same_v<Out, Sum>;
  const bool last = k0 + depth == task.depth;
  const Out* begin = nullptr;  // what the sums go on from
  if constexpr (kSums) {
    const std::int64_t at = row * task.columns + column;
    begin = k0 > 0 ? task.c + at : (task.addend ? task.addend + at : nullptr);
    if (columns == width && !(last && task.bias) && (!begin || begin == task.c + at)) {
      return MultiplyPanels(kernel, rows, panels, depth, a, b, b_stride, begin != nullptr, task.c + at, task.columns);
    }
  }
  alignas(64) Sum sums[kRowBlock * kPanel];
  for (std::int64_t i = 0; begin && i < rows; ++i) {
    const Out* from = begin + i * task.columns;
    for (std::int64_t j = 0; j < width; ++j) sums[i * width + j] = j < columns ? static_cast<Sum>(from[j]) : Sum(0);
  }
  MultiplyPanels(kernel, rows, panels, depth, a, b, b_stride, begin != nullptr, sums, width);
  Task<T, Out> store = task;
  if (!last) store.bias = nullptr;
  if (kSums) store.addend = nullptr;
  StoreSums(store, row, rows, column, columns, sums, width);
}

// One thread does up to this many multiply-adds sooner than two would meet.
constexpr std::int64_t kSmall = 65536;

// Panels that a block of rows is multiplied with at a time: several only if their sums fit the room for one.
constexpr std::int64_t PanelsAtATime(std::int64_t rows) { return rows <= 16 ? 4 : 1; }

// Blocks of k follow one another. Within a block, tasks are blocks of rows times groups of panels: their number depends
// on the threads, what each computes does not.
template <class Set, class T, class Out>
void Gemm(const Context& ctx, const Task<T, Out>& task) {
  const TileKernel<T>& kernel = TileKernelOf<Set, T>(ctx.cpu);
  const std::int64_t panels = CeilDiv(task.columns, kPanel), row_blocks = CeilDiv(task.rows, kRowBlock);
  constexpr bool kRounds = !std::is_same_v<Out, Accumulator<T>>;
  const std::int64_t depth_block = kRounds ? task.depth : std::min(task.depth, kDepthBlock<T>);
  const int threads = task.rows * task.columns * task.depth > kSmall ? ctx.threads : 1;
  const std::int64_t groups =
      threads == 1 ? 1 : std::min(panels, std::max<std::int64_t>(1, CeilDiv(threads, row_blocks)));
  const std::int64_t tiles = row_blocks * groups;
  const int parts = PartsFor(threads, tiles);
  ArenaScope scope(*ctx.arena);
  const std::int64_t scratch_bytes = RoundUp(kernel.PackedBytes(std::min(task.rows, kRowBlock), depth_block), 64);
  std::byte* scratch = ctx.arena->NewArray<std::byte>(parts * scratch_bytes);
  T* chunk = nullptr;  // the present block of b, packed, if b is not kept so
  if (!task.packed) chunk = ctx.arena->NewArray<T>(panels * PanelDepth<T>(depth_block) * kPanel);
  for (std::int64_t k0 = 0; k0 < task.depth; k0 += depth_block) {
    const std::int64_t depth = std::min(depth_block, task.depth - k0);
    if (!task.packed) {
      ForRanges(threads, panels, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) {
          PackPanel(task.b.From(k0, p * kPanel), depth, std::min(kPanel, task.columns - p * kPanel),
                    chunk + p * PanelDepth<T>(depth) * kPanel);
        }
      });
    }
    const T* b = task.packed ? task.packed + k0 * kPanel : chunk;
    const std::int64_t stride = PanelDepth<T>(task.packed ? task.depth : depth) * kPanel;
    ForParts(parts, [&](int part) {
      std::byte* a = scratch + part * scratch_bytes;
      for (std::int64_t t = part * tiles / parts; t < (part + 1) * tiles / parts; ++t) {
        const std::int64_t row = t / groups * kRowBlock, rows = std::min(kRowBlock, task.rows - row), g = t % groups;
        PackRows(kernel, task.a.From(row, k0), rows, depth, a);
        const std::int64_t end = (g + 1) * panels / groups;
        for (std::int64_t p = g * panels / groups; p < end; p += PanelsAtATime(rows)) {
          MultiplyBlock(kernel, task, row, rows, p * kPanel, std::min(PanelsAtATime(rows), end - p), k0, depth, a,
                        b + p * stride, stride);
        }
      }
    });
  }
}

template <class T, class Out>
void Product(const Context& ctx, const Task<T, Out>& task) {
  if (task.rows == 0 || task.columns == 0) return;
  const bool accumulate = task.addend == task.c;
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    if (ctx.gemm == GemmKind::kEigen && !task.bias && (accumulate || !task.addend)) {
      return ForRanges(ctx.threads, task.rows, [&](std::int64_t begin, std::int64_t end) {
        EigenGemm(end - begin, task.columns, task.depth, task.a.From(begin, 0), task.b, accumulate,
                  task.c + begin * task.columns);
      });
    }
  }
  if (task.depth == 0) {  // an empty sum: the bias and the addend
    for (std::int64_t i = 0; i < task.rows; ++i) {
      for (std::int64_t j = 0; j < task.columns; j += kPanel) {
        Accumulator<T> none[kPanel] = {};
        StoreSums(task, i, 1, j, std::min(kPanel, task.columns - j), none, kPanel);
      }
    }
    return;
  }
  Gemm<SWARR_SET>(ctx, task);
}

// A matrix as it is stored, or transposed.
struct View {
  const Tensor& matrix;
  bool transposed;

  template <class T>
  Strided<T> Elements() const {
    const std::int64_t stride = matrix.dim(1);
    return {matrix.data<T>(), transposed ? 1 : stride, transposed ? stride : 1};
  }
};

// c = a b + bias + addend, the last two optional (empty). `packed`: b as panels, or null.
void MultiplyInto(const Context& ctx, const Tensor& c, View a, View b, const Tensor& bias, const Tensor& addend,
                  const void* packed = nullptr) {
  const auto multiply = [&]<class T, class Out>() {
    Product<T, Out>(ctx, {.rows = c.dim(0),
                          .columns = c.dim(1),
                          .depth = a.matrix.dim(a.transposed ? 0 : 1),
                          .a = a.Elements<T>(),
                          .b = b.Elements<T>(),
                          .packed = static_cast<const T*>(packed),
                          .bias = bias.empty() ? nullptr : bias.data<T>(),
                          .addend = addend.empty() ? nullptr : addend.data<Out>(),
                          .c = c.data<Out>()});
  };
  Dispatch(a.matrix.dtype(), [&]<class T>() {
    if (c.dtype() == kDTypeOf<T>) return multiply.template operator()<T, T>();
    multiply.template operator()<T, Accumulator<T>>();
  });
}

}  // namespace

template <>
void Kernels<SWARR_SET>::MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w,
                                  const Tensor& bias, const Tensor& addend) {
  MultiplyInto(ctx, y, {x, false}, {w, true}, bias, addend, ctx.packed ? ctx.packed->Find(w) : nullptr);
}

template <>
void Kernels<SWARR_SET>::MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w,
                                  bool accumulate) {
  MultiplyInto(ctx, dx, {dy, false}, {w, false}, {}, accumulate ? dx : Tensor{});
}

template <>
void Kernels<SWARR_SET>::MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                                  bool accumulate) {
  MultiplyInto(ctx, dw, {dy, true}, {x, false}, {}, accumulate ? dw : Tensor{});
}

template <>
void Kernels<SWARR_SET>::BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy) {
  const std::int64_t N = dy.dim(0), O = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    ForColumns(ctx, O, N, [&](std::int64_t begin, std::int64_t end) {
      Sum* to = db.data<Sum>();
      for (std::int64_t n = 0; n < N; ++n) {
        const T* from = dy.data<T>() + n * O;
        for (std::int64_t o = begin; o < end; ++o) to[o] += Sum(from[o]);
      }
    });
  });
}

template <>
void Kernels<SWARR_SET>::PackWeight(const Context& ctx, const Tensor& panels, const Tensor& w) {
  const std::int64_t N = w.dim(0), K = w.dim(1);
  Dispatch(w.dtype(), [&]<class T>() {
    const Strided<T> b{w.data<T>(), 1, K};
    ForRanges(ctx.threads, panels.dim(0), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p) {
        PackPanel(b.From(0, p * kPanel), K, std::min(kPanel, N - p * kPanel),
                  panels.data<T>() + p * panels.dim(1) * kPanel);
      }
    });
  });
}

}  // namespace swarr
