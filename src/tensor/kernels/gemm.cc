// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
#include <algorithm>
#include <array>
#include <atomic>
#include <span>

#include "tensor/kernels/kernels.h"
#include "tensor/kernels/products.h"
#include "tensor/packed_weights.h"

namespace swarr {
namespace {

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
  Gemm<T, Out>(ctx, TileKernelOf<SWARR_SET, T>(ctx.cpu), {.tasks = {&task, 1}}).Run();
}

// The same of products that can be computed together.
template <class T, class Out>
void ProductsOf(const Context& ctx, const Products<T, Out>& products) {
  const bool plain = ctx.gemm == GemmKind::kOwn && std::ranges::all_of(products.tasks, [](const Task<T, Out>& task) {
                       return task.rows > 0 && task.columns > 0 && task.depth > 0;
                     });
  if (plain) return Gemm<T, Out>(ctx, TileKernelOf<SWARR_SET, T>(ctx.cpu), products).Run();
  for (const Task<T, Out>& task : products.tasks) Product(ctx, task);
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

// The panels that are kept of a weight, if any are.
template <class T>
PanelView<T> PanelsOf(const PackedWeight* packed) {
  if (!packed) return {};
  const Tensor panels = packed->panels.view();
  const bool whole = packed->notes.empty();
  return {panels.data<T>(), panels.dim(1) * (whole ? kPanel : PanelView<T>::kShort),
          whole ? nullptr : packed->notes.data()};
}

// c = a b + bias + addend, the last two optional (empty). `packed`: b as panels, or null.
template <class T, class Out>
Task<T, Out> TaskOf(const Tensor& c, View a, View b, const Tensor& bias = {}, const Tensor& addend = {},
                    const PackedWeight* packed = nullptr) {
  return {.rows = c.dim(0),
          .columns = c.dim(1),
          .depth = a.matrix.dim(a.transposed ? 0 : 1),
          .a = a.Elements<T>(),
          .b = b.Elements<T>(),
          .packed = PanelsOf<T>(packed),
          .bias = bias.empty() ? nullptr : bias.data<T>(),
          .addend = addend.empty() ? nullptr : addend.data<Out>(),
          .c = c.data<Out>()};
}

void MultiplyInto(const Context& ctx, const Tensor& c, View a, View b, const Tensor& bias, const Tensor& addend,
                  const PackedWeight* packed = nullptr) {
  Dispatch(a.matrix.dtype(), [&]<class T>() {
    if (c.dtype() == kDTypeOf<T>) return Product(ctx, TaskOf<T, T>(c, a, b, bias, addend, packed));
    Product(ctx, TaskOf<T, Accumulator<T>>(c, a, b, bias, addend, packed));
  });
}

// The products of `parts`, at most kMostLinears, each made a task by f.
template <class T, class Out, class Part, class F>
void Together(const Context& ctx, bool stacked, std::span<const Part> parts, const F& f) {
  std::array<Task<T, Out>, kMostLinears> tasks;
  std::transform(parts.begin(), parts.end(), tasks.begin(), f);
  ProductsOf<T, Out>(ctx, {.tasks = {tasks.data(), parts.size()}, .stacked = stacked});
}

const PackedWeight* PackedOf(const Context& ctx, const Tensor& w) { return ctx.packed ? ctx.packed->Find(w) : nullptr; }

}  // namespace

template <>
void Kernels<SWARR_SET>::MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w,
                                  const Tensor& bias, const Tensor& addend) {
  MultiplyInto(ctx, y, {x, false}, {w, true}, bias, addend, PackedOf(ctx, w));
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
void Kernels<SWARR_SET>::Linears(const Context& ctx, const Tensor& x, std::span<const LinearResult> results) {
  Dispatch(x.dtype(), [&]<class T>() {
    Together<T, T>(ctx, /*stacked=*/false, results, [&](const LinearResult& r) {
      return TaskOf<T, T>(r.y, {x, false}, {r.w, true}, r.b, {}, PackedOf(ctx, r.w));
    });
  });
}

template <>
void Kernels<SWARR_SET>::LinearsInputGradient(const Context& ctx, const Tensor& dx,
                                              std::span<const InputGradientTerm> terms) {
  Dispatch(dx.dtype(), [&]<class T>() {
    Together<T, T>(ctx, /*stacked=*/false, terms, [&](const InputGradientTerm& term) {
      return TaskOf<T, T>(dx, {term.dy, false}, {term.w, false}, {}, &term == &terms[0] ? Tensor{} : dx);
    });
  });
}

template <>
void Kernels<SWARR_SET>::LinearsWeightGradients(const Context& ctx, const Tensor& x,
                                                std::span<const WeightGradient> gradients) {
  Dispatch(x.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    Together<T, Sum>(ctx, /*stacked=*/true, gradients, [&](const WeightGradient& g) {
      return TaskOf<T, Sum>(g.dw, {g.dy, true}, {x, false}, {}, g.dw.fresh() ? Tensor{} : g.dw);
    });
  });
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
      PackPanels(b, K, N, begin, end, panels.data<T>(), panels.dim(1) * kPanel);
    });
  });
}

template <>
bool Kernels<SWARR_SET>::PackWeightShort(const Context& ctx, const Tensor& panels, std::span<ShortNote> notes,
                                         const Tensor& w) {
  const std::int64_t N = w.dim(0), K = w.dim(1);
  return Dispatch(w.dtype(), [&]<class T>() {
    const Strided<T> b{w.data<T>(), 1, K};
    const std::int64_t stride = panels.dim(1) * PanelView<T>::kShort, blocks = panels.dim(1) / kSegment<BFloat16>;
    const auto shorten = TileKernelOf<SWARR_SET, T>(ctx.cpu).shorten;
    std::atomic<bool> all = shorten != nullptr;
    if (all) {
      ForRanges(ctx.threads, panels.dim(0), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end && all; ++p) {
          const bool fits = shorten(b.From(0, p * kPanel), K, std::min(kPanel, N - p * kPanel),
                                    panels.data<T>() + p * stride, notes.data() + p * blocks);
          if (!fits) all = false;
        }
      });
    }
    return all.load();
  });
}

}  // namespace swarr
