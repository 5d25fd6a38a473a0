// SPDX-License-Identifier: Apache-2.0
// Twin of src/tensor/kernels/gemm.cc: the three products of a linear layer, and the gradient of its bias, which is a
// sum over rows (cuda/sums.h). The products are one product c = a b^T of operands that are stored as they are or
// transposed. The kernel here is for f64 and f32; those for bf16 are in gemm_mma.cu and gemm_wgmma.cu.
//
// A block of 16 x 16 threads computes a tile of c; each thread computes R x C elements. Tiles of the operands, 16 of k
// deep, pass through two buffers of shared memory: while one tile is multiplied the next is on its way. Every element
// is one accumulator that begins with the addend and takes its products in ascending k by fma, padded with zeros to a
// multiple of 16. That does not depend on the size of the tile, which may therefore depend on the number of rows.
//
// Gradients of weights have few elements and many k. There k is cut into parts, by the shapes of the products that
// share a launch, and the parts' sums are added in ascending order. Left out: 16-byte loads from global memory.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/gemm_parts.h"
#include "cuda/pack.h"
#include "cuda/short_product.h"
#include "cuda/sums.h"
#include "tensor/kernels/kernels.h"
#include "tensor/linears.h"

namespace swarr {
namespace {

constexpr int kSide = 16;  // threads of a block along rows, and along columns
constexpr int kStep = 16;  // k of a tile
static_assert(kSide * kSide == kThreads);

// Loads consecutive elements of shared memory.
template <int kCount, class T>
__device__ void LoadRun(T* to, const T* from) {
  constexpr int k = kCount % kPack<T> == 0 ? kPack<T> : 1;
#pragma unroll
  for (int i = 0; i < kCount; i += k) {
    const auto run = *reinterpret_cast<const Pack<T, k>*>(from + i);
#pragma unroll
    for (int e = 0; e < k; ++e) to[i + e] = run.at[e];
  }
}

// kSize rows of an operand, kStep of k, in shared memory: element (row, k) is at[k][row]. The pitch is a pack more than
// the length, so that successive k spread over the banks.
template <class T, int kSize>
struct Tile {
  alignas(16) T at[kStep][kSize + kPack<T>];
};

// A thread's share of a tile, in registers. Neighbouring threads take neighbouring elements of global memory.
template <class T, int kSize>
struct TileShare {
  static constexpr int kCount = kSize * kStep / kThreads;
  T values[kCount];

  static __device__ int Row(int i, bool transposed) {
    const int element = static_cast<int>(threadIdx.x) + i * kThreads;
    return transposed ? element % kSize : element / kStep;
  }
  static __device__ int Depth(int i, bool transposed) {
    const int element = static_cast<int>(threadIdx.x) + i * kThreads;
    return transposed ? element / kSize : element % kStep;
  }

  // Loads the tile at (row, k) of an operand that ends before (row_end, k_end); zeros stand for what is beyond.
  __device__ void Load(const Operand<T>& from, std::int64_t row, std::int64_t row_end, std::int64_t k,
                       std::int64_t k_end) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const std::int64_t r = row + Row(i, from.transposed), d = k + Depth(i, from.transposed);
      const bool inside = r < row_end && d < k_end;
      values[i] = inside ? from.data[from.transposed ? d * from.stride + r : r * from.stride + d] : T(0);
    }
  }
  __device__ void Store(Tile<T, kSize>& to, bool transposed) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to.at[Depth(i, transposed)][Row(i, transposed)] = values[i];
  }
};

// The columns of a thread: runs of a pack, kSide runs apart.
template <class T>
__device__ int ColumnOf(int j) {
  constexpr int kRun = kPack<T>;
  return (j / kRun * kSide + static_cast<int>(threadIdx.x) % kSide) * kRun + j % kRun;
}

template <class T, int R, int C>
__device__ void MultiplyTiles(const Tile<T, kSide * R>& a_tile, const Tile<T, kSide * C>& b_tile, T (&sums)[R][C]) {
  const int row = static_cast<int>(threadIdx.x) / kSide * R;
#pragma unroll
  for (int k = 0; k < kStep; ++k) {
    T a[R], b[C];
    LoadRun<R>(a, &a_tile.at[k][row]);
#pragma unroll
    for (int j = 0; j < C; j += kPack<T>) LoadRun<kPack<T>>(b + j, &b_tile.at[k][ColumnOf<T>(j)]);
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < C; ++j) sums[i][j] = fma(a[i], b[j], sums[i][j]);
    }
  }
}

// Calls f(sum, offset in c, column) for the thread's elements that lie within c.
template <class T, int R, int C, class F>
__device__ void ForElements(const Product<T, T>& p, TileOrigin origin, T (&sums)[R][C], F f) {
#pragma unroll
  for (int i = 0; i < R; ++i) {
    const std::int64_t row = origin.row + static_cast<int>(threadIdx.x) / kSide * R + i;
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const std::int64_t column = origin.column + ColumnOf<T>(j);
      if (row < p.rows && column < p.columns) f(sums[i][j], row * p.columns + column, column);
    }
  }
}

// Grid: the tiles of c, 1, the parts of k.
template <class T, int R, int C>
__global__ void __launch_bounds__(kThreads) ProductKernel(Product<T, T> p) {
  __shared__ Tile<T, kSide * R> a_tiles[2];
  __shared__ Tile<T, kSide * C> b_tiles[2];
  const TileOrigin origin = OriginOfTile(blockIdx.x, p.rows, p.columns, kSide * R, kSide * C);
  const std::int64_t begin = blockIdx.z * p.part_depth, end = min(p.depth, begin + p.part_depth);
  p.c += blockIdx.z * p.rows * p.columns;

  T sums[R][C] = {};
  if (p.addend) ForElements(p, origin, sums, [&](T& sum, std::int64_t at, std::int64_t) { sum = p.addend[at]; });

  TileShare<T, kSide * R> a;
  TileShare<T, kSide * C> b;
  const auto load = [&](std::int64_t k) {
    a.Load(p.a, origin.row, p.rows, k, end);
    b.Load(p.b, origin.column, p.columns, k, end);
  };
  const auto store = [&](int buffer) {
    a.Store(a_tiles[buffer], p.a.transposed);
    b.Store(b_tiles[buffer], p.b.transposed);
  };
  load(begin);
  store(0);
  __syncthreads();
  int buffer = 0;
  for (std::int64_t k = begin; k < end; k += kStep, buffer ^= 1) {
    const bool more = k + kStep < end;
    if (more) load(k + kStep);
    MultiplyTiles<T, R, C>(a_tiles[buffer], b_tiles[buffer], sums);
    if (more) store(buffer ^ 1);  // nobody has read that buffer since the last barrier
    __syncthreads();
  }

  ForElements(p, origin, sums,
              [&](T sum, std::int64_t at, std::int64_t column) { p.c[at] = p.bias ? sum + p.bias[column] : sum; });
}

template <int R, int C, class T>
void LaunchProduct(const Context& ctx, const Product<T, T>& p) {
  const std::int64_t tiles = Blocks(p.rows, kSide * R) * Blocks(p.columns, kSide * C);
  const dim3 grid(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(p.parts()));
  Launch(ctx, {grid, kThreads}, ProductKernel<T, R, C>, p);
}

// Large tiles read less, small ones keep more multiprocessors busy.
template <class T, class Out>
void Multiply(const Context& ctx, const Product<T, Out>& p) {
  if (ctx.gemm == GemmKind::kCublas && !p.bias && p.depth > 0) return MultiplyByCublas(ctx, p);
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (FewRowsTake(ctx, p)) return MultiplyFewRows(ctx, p);
    WarpgroupsTake(ctx, p) ? MultiplyByWarpgroups(ctx, Products<T, Out>(&p, 1)) : MultiplyOnTensorCores(ctx, p);
  } else {
    if constexpr (std::is_same_v<T, float>) {
      if (ShortProductTakes(ctx, p)) return MultiplyShort(ctx, p);
    }
    if (p.rows <= kSide) return LaunchProduct<1, 4>(ctx, p);
    if constexpr (std::is_same_v<T, float>) {
      const std::int64_t tiles = Blocks(p.rows, kSide * 8) * Blocks(p.columns, kSide * 8) * p.parts();
      if (tiles >= ctx.stream->multiprocessors) return LaunchProduct<8, 8>(ctx, p);
    }
    LaunchProduct<4, 4>(ctx, p);
  }
}

// Whether products of one form share a launch: where warpgroups take them all.
template <class T, class Out>
bool ShareLaunch(const Context& ctx, Products<T, Out> products) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const bool few = std::ranges::any_of(products, [&](const auto& p) { return FewRowsTake(ctx, p); });
    return ctx.gemm == GemmKind::kOwn && !few && WarpgroupsTake(ctx, products);
  }
  return false;
}

template <class T, class Out>
void MultiplyAll(const Context& ctx, Products<T, Out> products) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (ShareLaunch(ctx, products)) return MultiplyByWarpgroups(ctx, products);
  }
  for (const Product<T, Out>& p : products) Multiply(ctx, p);
}

// Shared memory that makes so few blocks fit on a multiprocessor that all multiprocessors get some. Blocks that begin
// early would else fill those that are done first, and a multiprocessor reads no faster for having more of them.
std::size_t SpreadingBytes(const Context& ctx, std::int64_t blocks) {
  const std::int64_t each = Blocks(blocks, ctx.stream->multiprocessors);
  return each >= 2048 / kThreads ? 0 : static_cast<std::size_t>(ctx.stream->shared_memory / (each + 1) + 1024);
}

// Products of one form and depth, without bias, with their depth cut into parts. They share a launch where that should
// save a fiftieth.
template <class T, class Out>
void MultiplyInParts(const Context& ctx, Products<T, Out> products) {
  using Sum = Accumulator<T>;
  const auto [part_depth, cost] = BestParts(products);
  const std::int64_t depth = products[0].depth;
  if (products.size() > 1) {
    std::int64_t alone = 0;
    for (std::size_t i = 0; i < products.size(); ++i) alone += BestParts(products.subspan(i, 1)).cost;
    if (cost > alone - alone / 50) {
      for (std::size_t i = 0; i < products.size(); ++i) MultiplyInParts(ctx, products.subspan(i, 1));
      return;
    }
  }
  if (depth <= part_depth || ctx.gemm == GemmKind::kCublas) return MultiplyAll(ctx, products);
  ArenaScope scope(*ctx.arena);
  const std::int64_t parts = Blocks(depth, part_depth);
  std::int64_t most = 0;
  bool all_whole = true;
  Few<Product<T, Sum>> in_parts;
  AllPartSums<Sum, Out> sums{};
  for (const Product<T, Out>& p : products) {
    const std::int64_t size = p.rows * p.columns;
    Sum* partial = ctx.arena->NewArray<Sum>(parts * size);
    sums.of[in_parts.view().size()] = {size, partial, p.addend, p.c};
    in_parts.Add({.rows = p.rows,
                  .columns = p.columns,
                  .depth = depth,
                  .a = p.a,
                  .b = p.b,
                  .c = partial,
                  .part_depth = part_depth});
    most = std::max(most, size);
    all_whole = all_whole && RowsAligned<kPack<Sum>>(size, partial, p.addend, p.c);
  }
  MultiplyAll(ctx, in_parts.view());
  const auto blocks = static_cast<unsigned>(Blocks(most, kThreads * kPack<Sum>));
  const dim3 grid(blocks, 1, static_cast<unsigned>(products.size()));
  const std::size_t spread = SpreadingBytes(ctx, std::int64_t{blocks} * grid.z);
  WithWhole(all_whole, [&]<bool whole>() {
    Launch(ctx, {grid, kThreads, spread, /*early=*/true}, AddPartsKernel<whole, Sum, Out>, parts, sums);
  });
}

template <class T>
struct Widen {
  const T* dy;
  std::int64_t columns;
  __device__ Accumulator<T> operator()(std::int64_t n, std::int64_t c) const {
    return static_cast<Accumulator<T>>(dy[n * columns + c]);
  }
};

// A matrix as it is stored, or transposed.
struct View {
  const Tensor& matrix;
  bool transposed;

  template <class T>
  Operand<T> operand() const {
    return {matrix.data<T>(), matrix.dim(1), transposed};
  }
};

// c = a b^T + bias + addend, the last two optional (empty).
template <class T, class Out>
Product<T, Out> ProductOf(const Tensor& c, View a, View b, const Tensor& bias, const Tensor& addend) {
  const std::int64_t depth = a.matrix.dim(a.transposed ? 0 : 1);
  return {.rows = c.dim(0),
          .columns = c.dim(1),
          .depth = depth,
          .a = a.operand<T>(),
          .b = b.operand<T>(),
          .bias = bias.empty() ? nullptr : bias.data<T>(),
          .addend = addend.empty() ? nullptr : addend.data<Out>(),
          .c = c.data<Out>(),
          .part_depth = depth};
}

// Calls f<T, Out>() with the types of operands and result.
template <class F>
void DispatchProduct(const Tensor& a, const Tensor& c, F&& f) {
  if (c.dim(0) == 0 || c.dim(1) == 0) return;
  Dispatch(a.dtype(), [&]<class T>() {
    if (c.dtype() == kDTypeOf<T>) return f.template operator()<T, T>();
    f.template operator()<T, Accumulator<T>>();
  });
}

// Whether linear layers of one input share their launches: in bf16, by our own products.
bool Fuses(const Context& ctx, DType dtype) {
  return ctx.stream && dtype == DType::kBF16 && ctx.gemm == GemmKind::kOwn;
}

}  // namespace

template <>
void Kernels<Cuda>::MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                             const Tensor& addend) {
  DispatchProduct(x, y, [&]<class T, class Out>() {
    Multiply(ctx, ProductOf<T, Out>(y, {x, false}, {w, false}, bias, addend));
  });
}

template <>
void Kernels<Cuda>::MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate) {
  DispatchProduct(dy, dx, [&]<class T, class Out>() {
    Multiply(ctx, ProductOf<T, Out>(dx, {dy, false}, {w, true}, {}, accumulate ? dx : Tensor{}));
  });
}

template <>
void Kernels<Cuda>::MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate) {
  DispatchProduct(dy, dw, [&]<class T, class Out>() {
    const auto product = ProductOf<T, Out>(dw, {dy, true}, {x, true}, {}, accumulate ? dw : Tensor{});
    MultiplyInParts(ctx, Products<T, Out>(&product, 1));
  });
}

bool FusedLinears(const Context& ctx, const Tensor& x, std::span<const LinearResult> results,
                  const RowPositions& rows) {
  if (!Fuses(ctx, x.dtype()) || x.dim(0) == 0) return false;
  Few<Product<BFloat16, BFloat16>> products, turned;
  for (const auto& [y, w, b, turns] : results) {
    auto product = ProductOf<BFloat16, BFloat16>(y, {x, false}, {w, false}, b, {});
    products.Add(product);
    if (turns) product.turn = {rows.positions.data<std::int32_t>(), rows.table.data<float>()};
    turned.Add(product);
  }
  const bool turn = !rows.table.empty() && rows.table.dim(1) == kTurnedHead && ShareLaunch(ctx, products.view());
  MultiplyAll(ctx, turn ? turned.view() : products.view());
  for (const LinearResult& result : results) {
    if (result.turned && !turn) TurnHeads(ctx, result.y, rows);
  }
  return true;
}

// In f64 and f32 products one after another are one chain already.
bool FusedInputGradient(const Context& ctx, const Tensor& dx, std::span<const InputGradientTerm> terms) {
  if (!Fuses(ctx, dx.dtype()) || dx.dim(0) == 0) return false;
  SWARR_CHECK(terms.size() <= kMostFactors, "an input's gradient has ", terms.size(), " terms; at most ", kMostFactors);
  auto product = ProductOf<BFloat16, BFloat16>(dx, {terms[0].dy, false}, {terms[0].w, true}, {}, {});
  for (std::size_t i = 1; i < terms.size(); ++i) {
    const View dy{terms[i].dy, false}, w{terms[i].w, true};
    product.more[i - 1] = {dy.operand<BFloat16>(), w.operand<BFloat16>(), w.matrix.dim(0)};
  }
  Multiply(ctx, product);
  return true;
}

bool FusedWeightGradients(const Context& ctx, const Tensor& x, std::span<const WeightGradient> gradients) {
  if (!Fuses(ctx, x.dtype()) || gradients.empty()) return false;
  Few<Product<BFloat16, float>> products;
  for (const auto& [dw, dy] : gradients) {
    products.Add(ProductOf<BFloat16, float>(dw, {dy, true}, {x, true}, {}, dw.fresh() ? Tensor{} : dw));
  }
  MultiplyInParts(ctx, products.view());
  return true;
}

template <>
void Kernels<Cuda>::BiasBackward(const Context& ctx, const Tensor& db, const Tensor& dy) {
  const std::int64_t O = dy.dim(1);
  Dispatch(dy.dtype(), [&]<class T>() {
    AddColumnSums(ctx, db.data<Accumulator<T>>(), dy.dim(0), O, Widen<T>{dy.data<T>(), O});
  });
}

}  // namespace swarr
