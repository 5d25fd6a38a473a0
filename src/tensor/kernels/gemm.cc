// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <omp.h>

#include "tensor/gemm_eigen.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/panels.h"
#include "tensor/packed_weights.h"

namespace swarr {
namespace {

// Rows that a task packs and multiplies with panel after panel.
constexpr std::int64_t kRowBlock = 128;
// Rows of k that are multiplied before the sums are stored to c, so that a block of a panel stays in the first-level
// cache, or for bf16, which takes half the room and more rows at a time, in the second. A result that is rounded when
// it is stored (bf16) can't be taken up again: there the whole depth is one block.
template <class T>
constexpr std::int64_t kDepthBlock = kDTypeOf<T> == DType::kBF16 ? 1024 : 256;

// What a product is to do: c[rows, columns] = a[rows, depth] b[depth, columns] + bias + addend. Out is T or its
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

// Sums [rows, panels of columns] with bias and addend, to c: rounded if c is narrower. The sums are used up.
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

// Rows [row, row + rows) times `panels` panels, of which `b` is the block at k0. Where c holds accumulators they are
// continued, beginning from the addend: a float stored and loaded again is the same float, so blocking leaves no trace
// in the bits. Else the whole depth is one block, and the addend is added to its sum.
template <class T, class Out>
void MultiplyBlock(const TileKernel<T>& kernel, const Task<T, Out>& task, std::int64_t row, std::int64_t rows,
                   std::int64_t column, std::int64_t panels, std::int64_t k0, std::int64_t depth, const std::byte* a,
                   const T* b, std::int64_t b_stride) {
  using Sum = Accumulator<T>;
  const std::int64_t width = panels * kPanel, columns = std::min(width, task.columns - column);
  constexpr bool kSums = std::is_same_v<Out, Sum>;
  const bool last = k0 + depth == task.depth;
  const Out* begin = nullptr;  // where sums go on from
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

// Multiply-adds that one thread does sooner than two would meet.
constexpr std::int64_t kSmall = 65536;

// Panels that a block of rows is multiplied with at a time: several only where their sums fit the room for one.
constexpr std::int64_t PanelsAtATime(std::int64_t rows) { return rows <= 16 ? 4 : 1; }

// Blocks of k follow one another; within one, tasks are blocks of rows times groups of panels. How many there are
// depends on the threads, what each computes does not.
template <class Set, class T, class Out>
void Gemm(const Context& ctx, const Task<T, Out>& task) {
  const TileKernel<T>& kernel = TileKernelOf<Set, T>(ctx.cpu);
  const std::int64_t panels = CeilDiv(task.columns, kPanel), row_blocks = CeilDiv(task.rows, kRowBlock);
  constexpr bool kRounds = !std::is_same_v<Out, Accumulator<T>>;
  const std::int64_t depth_block = kRounds ? task.depth : std::min(task.depth, kDepthBlock<T>);
  const int threads = task.rows * task.columns * task.depth > kSmall ? ctx.threads : 1;
  const std::int64_t groups =
      threads == 1 ? 1 : std::min(panels, std::max<std::int64_t>(1, CeilDiv(threads, row_blocks)));
  ArenaScope scope(*ctx.arena);
  const std::int64_t scratch_bytes = RoundUp(PackedRowsBytes(kernel, std::min(task.rows, kRowBlock), depth_block), 64);
  std::byte* scratch = ctx.arena->NewArray<std::byte>(threads * scratch_bytes);
  T* chunk = nullptr;  // the present block of b, packed, if b is not kept so
  if (!task.packed) chunk = ctx.arena->NewArray<T>(panels * PanelDepth<T>(depth_block) * kPanel);
  const auto multiply = [&] {
    for (std::int64_t k0 = 0; k0 < task.depth; k0 += depth_block) {
      const std::int64_t depth = std::min(depth_block, task.depth - k0);
      if (!task.packed) {
#pragma omp for schedule(static)
        for (std::int64_t p = 0; p < panels; ++p) {
          PackPanel(task.b.From(k0, p * kPanel), depth, std::min(kPanel, task.columns - p * kPanel),
                    chunk + p * PanelDepth<T>(depth) * kPanel);
        }
      }
#pragma omp for schedule(static) collapse(2)
      for (std::int64_t r = 0; r < row_blocks; ++r) {
        for (std::int64_t g = 0; g < groups; ++g) {
          std::byte* a = scratch + omp_get_thread_num() * scratch_bytes;
          const std::int64_t row = r * kRowBlock, rows = std::min(kRowBlock, task.rows - row);
          PackRows(kernel, task.a.From(row, k0), rows, depth, a);
          const std::int64_t end = (g + 1) * panels / groups,
                             stride = PanelDepth<T>(task.packed ? task.depth : depth) * kPanel;
          const T* b = task.packed ? task.packed + k0 * kPanel : chunk;
          for (std::int64_t p = g * panels / groups; p < end; p += PanelsAtATime(rows)) {
            MultiplyBlock(kernel, task, row, rows, p * kPanel, std::min(PanelsAtATime(rows), end - p), k0, depth, a,
                          b + p * stride, stride);
          }
        }
      }
    }
  };
  if (threads == 1) return multiply();
#pragma omp parallel num_threads(threads)
  multiply();
}

template <class T, class Out>
void Product(const Context& ctx, const Task<T, Out>& task) {
  if (task.rows == 0 || task.columns == 0) return;
  const bool accumulate = task.addend == task.c;
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    if (ctx.gemm == GemmKind::kEigen && !task.bias && (accumulate || !task.addend)) {
      return EigenGemm(task.rows, task.columns, task.depth, task.a, task.b, accumulate, task.c);
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

// Calls f with a null pointer of the type of the result's elements: T, or what T is summed in.
template <class T, class F>
void WithResultType(const Tensor& c, F&& f) {
  if (c.dtype() == kDTypeOf<T>) return f(static_cast<T*>(nullptr));
  return f(static_cast<Accumulator<T>*>(nullptr));
}

}  // namespace

template <>
void Kernels<SWARR_SET>::MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w,
                                  const Tensor& bias, const Tensor& addend) {
  const std::int64_t m = x.dim(0), k = x.dim(1), n = w.dim(0);
  Dispatch(x.dtype(), [&]<class T>() {
    const T* packed = ctx.packed ? static_cast<const T*>(ctx.packed->Find(w)) : nullptr;
    const T* b = bias.empty() ? nullptr : bias.data<T>();
    WithResultType<T>(y, [&]<class Out>(Out*) {
      Product<T, Out>(ctx, {m,
                            n,
                            k,
                            {x.data<T>(), k, 1},
                            {w.data<T>(), 1, k},
                            packed,
                            b,
                            addend.empty() ? nullptr : addend.data<Out>(),
                            y.data<Out>()});
    });
  });
}

template <>
void Kernels<SWARR_SET>::MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w,
                                  bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = w.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    WithResultType<T>(dx, [&]<class Out>(Out*) {
      Product<T, Out>(ctx, {m,
                            k,
                            n,
                            {dy.data<T>(), n, 1},
                            {w.data<T>(), k, 1},
                            nullptr,
                            nullptr,
                            accumulate ? dx.data<Out>() : nullptr,
                            dx.data<Out>()});
    });
  });
}

template <>
void Kernels<SWARR_SET>::MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x,
                                  bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = x.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    WithResultType<T>(dw, [&]<class Out>(Out*) {
      Product<T, Out>(ctx, {n,
                            k,
                            m,
                            {dy.data<T>(), 1, n},
                            {x.data<T>(), k, 1},
                            nullptr,
                            nullptr,
                            accumulate ? dw.data<Out>() : nullptr,
                            dw.data<Out>()});
    });
  });
}

template <>
void Kernels<SWARR_SET>::PackWeight(const Context& ctx, const Tensor& panels, const Tensor& w) {
  const std::int64_t N = w.dim(0), K = w.dim(1);
  Dispatch(w.dtype(), [&]<class T>() {
    const Strided<T> b{w.data<T>(), 1, K};
#pragma omp parallel for num_threads(ctx.threads) schedule(static)
    for (std::int64_t p = 0; p < panels.dim(0); ++p) {
      PackPanel(b.From(0, p * kPanel), K, std::min(kPanel, N - p * kPanel),
                panels.data<T>() + p * panels.dim(1) * kPanel);
    }
  });
}

}  // namespace swarr
