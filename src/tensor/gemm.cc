// SPDX-License-Identifier: Apache-2.0
#include "tensor/gemm.h"

#include <algorithm>

#include "tensor/gemm_eigen.h"
#include "tensor/gemm_kernel.h"

namespace swarr {
namespace {

constexpr std::int64_t kDepthBlock =
    128;                                // a packed panel of b (128 x 32 floats, 16 KiB) stays in the first-level cache
constexpr std::int64_t kRowBlock = 64;  // rows that one task runs over with one panel

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Copies columns [column, column + kTileColumns) of rows [k0, k0 + depth) of b to `packed`, zero beyond the last
// column.
template <class T>
void PackPanel(Strided<T> b, std::int64_t k0, std::int64_t depth, std::int64_t column, std::int64_t columns,
               T* packed) {
  constexpr std::int64_t kWidth = kTileColumns<T>;
  const std::int64_t valid = std::min(kWidth, columns - column);
  const T* from = b.data + k0 * b.row_stride + column * b.column_stride;
  if (b.column_stride == 1) {
    for (std::int64_t k = 0; k < depth; ++k) {
      std::copy_n(from + k * b.row_stride, valid, packed + k * kWidth);
      std::fill(packed + k * kWidth + valid, packed + (k + 1) * kWidth, T(0));
    }
    return;
  }
  if (valid < kWidth) std::fill(packed, packed + depth * kWidth, T(0));
  for (std::int64_t j = 0; j < valid; ++j) {
    for (std::int64_t k = 0; k < depth; ++k) packed[k * kWidth + j] = from[k * b.row_stride + j * b.column_stride];
  }
}

// A row block of c against one panel of b. A tile at the right edge goes through a full-width copy.
template <class T>
void MultiplyBlock(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, std::int64_t depth,
                   Strided<T> a, const T* packed, bool accumulate, T* c) {
  constexpr std::int64_t kWidth = kTileColumns<T>;
  const std::int64_t valid = std::min(kWidth, columns - column);
  for (std::int64_t i = row; i < rows; i += kTileRows) {
    const int tile_rows = static_cast<int>(std::min<std::int64_t>(kTileRows, rows - i));
    const Strided<T> a_tile{a.data + i * a.row_stride, a.row_stride, a.column_stride};
    T* c_tile = c + i * columns + column;
    if (valid == kWidth) {
      GemmTile(tile_rows, depth, a_tile, packed, accumulate, c_tile, columns);
      continue;
    }
    T edge[kTileRows * kWidth] = {};
    for (int r = 0; accumulate && r < tile_rows; ++r) std::copy_n(c_tile + r * columns, valid, edge + r * kWidth);
    GemmTile(tile_rows, depth, a_tile, packed, accumulate, edge, kWidth);
    for (int r = 0; r < tile_rows; ++r) std::copy_n(edge + r * kWidth, valid, c_tile + r * columns);
  }
}

// c[rows, columns] (+)= a[rows, depth] b[depth, columns]. Blocks of k follow one another, and c carries the
// accumulators from block to block: a float stored and loaded again is the same float, so the blocking leaves no trace
// in the bits.
template <class T>
void Gemm(const Context& ctx, std::int64_t rows, std::int64_t columns, std::int64_t depth, Strided<T> a, Strided<T> b,
          bool accumulate, T* c) {
  constexpr std::int64_t kWidth = kTileColumns<T>;
  const std::int64_t panels = CeilDiv(columns, kWidth);
  const std::int64_t row_blocks = CeilDiv(rows, kRowBlock);
  ArenaScope scope(*ctx.arena);
  T* packed = ctx.arena->New(kDTypeOf<T>, {panels, std::min(depth, kDepthBlock), kWidth}).template data<T>();
  if (depth == 0 && !accumulate) std::fill(c, c + rows * columns, T(0));
#pragma omp parallel num_threads(ctx.threads) if (rows * columns * depth > 32768)
  for (std::int64_t k0 = 0; k0 < depth; k0 += kDepthBlock) {
    const std::int64_t block = std::min(kDepthBlock, depth - k0);
#pragma omp for schedule(static)
    for (std::int64_t p = 0; p < panels; ++p) {
      PackPanel(b, k0, block, p * kWidth, columns, packed + p * block * kWidth);
    }
    const Strided<T> a_block{a.data + k0 * a.column_stride, a.row_stride, a.column_stride};
#pragma omp for schedule(static) collapse(2)
    for (std::int64_t r = 0; r < row_blocks; ++r) {
      for (std::int64_t p = 0; p < panels; ++p) {
        MultiplyBlock(r * kRowBlock, std::min(rows, (r + 1) * kRowBlock), p * kWidth, columns, block, a_block,
                      packed + p * block * kWidth, accumulate || k0 > 0, c);
      }
    }
  }
}

template <class T>
void Product(const Context& ctx, std::int64_t rows, std::int64_t columns, std::int64_t depth, Strided<T> a,
             Strided<T> b, bool accumulate, T* c) {
  if (rows == 0 || columns == 0) return;
  if (ctx.gemm == GemmKind::kEigen) return EigenGemm(rows, columns, depth, a, b, accumulate, c);
  Gemm(ctx, rows, columns, depth, a, b, accumulate, c);
}

}  // namespace

void MatMulNT(const Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate) {
  const std::int64_t m = x.dim(0), k = x.dim(1), n = w.dim(0);
  CheckShape(x, x.dtype(), {m, k}, "the input of a product x w^T");
  CheckShape(w, x.dtype(), {n, k}, "the weight of a product x w^T");
  CheckShape(y, x.dtype(), {m, n}, "the result of a product x w^T");
  Dispatch(x.dtype(), [&]<class T>() {
    Product<T>(ctx, m, n, k, {x.data<T>(), k, 1}, {w.data<T>(), 1, k}, accumulate, y.data<T>());
  });
}

void MatMulNN(const Context& ctx, const Tensor& dx, const Tensor& dy, const Tensor& w, bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = w.dim(1);
  CheckShape(dy, dy.dtype(), {m, n}, "the gradient of a product dy w");
  CheckShape(w, dy.dtype(), {n, k}, "the weight of a product dy w");
  CheckShape(dx, dy.dtype(), {m, k}, "the result of a product dy w");
  Dispatch(dy.dtype(), [&]<class T>() {
    Product<T>(ctx, m, k, n, {dy.data<T>(), n, 1}, {w.data<T>(), k, 1}, accumulate, dx.data<T>());
  });
}

void MatMulTN(const Context& ctx, const Tensor& dw, const Tensor& dy, const Tensor& x, bool accumulate) {
  const std::int64_t m = dy.dim(0), n = dy.dim(1), k = x.dim(1);
  CheckShape(dy, dy.dtype(), {m, n}, "the gradient of a product dy^T x");
  CheckShape(x, dy.dtype(), {m, k}, "the input of a product dy^T x");
  CheckShape(dw, dy.dtype(), {n, k}, "the result of a product dy^T x");
  Dispatch(dy.dtype(), [&]<class T>() {
    Product<T>(ctx, n, k, m, {dy.data<T>(), 1, n}, {x.data<T>(), k, 1}, accumulate, dw.data<T>());
  });
}

}  // namespace swarr
