// SPDX-License-Identifier: Apache-2.0
// What the kernels of matrix products share: gemm.cu for f64 and f32, gemm_mma.cu and gemm_wgmma.cu for bf16.
#pragma once

#include <algorithm>
#include <span>

#include "cuda/cuda.h"
#include "cuda/pack.h"

namespace swarr {

// A matrix [n, depth], stored as it is, row after row, or transposed, as [depth, n]. `stride` is the length of a stored
// row.
template <class T>
struct Operand {
  const T* data;
  std::int64_t stride;
  bool transposed;
};

// Two matrices whose product is a b^T.
template <class T>
struct Factors {
  Operand<T> a, b;
  std::int64_t depth = 0;  // 0: none
};
constexpr int kMostFactors = 3, kMostProducts = 3;

// Rotary embedding of a result whose columns are heads of kTurnedHead: row n stands at positions[n] of the table. Null:
// none.
constexpr int kTurnedHead = 64;
struct Turn {
  const std::int32_t* positions = nullptr;
  const float* table = nullptr;
};

// c[rows, columns] = a[rows, depth] b[columns, depth]^T + bias[columns] + addend[rows, columns]. Out is T or its
// accumulator.
//
// `more`: their products are added by the same accumulators, as if all depths were one. Each is padded with zeros to a
// multiple of 64. Only in bf16, with b transposed and a not, and in one part.
//
// `turn`: what is stored is the rounded result, turned and rounded again. Only in bf16, where warpgroups multiply.
//
// If part_depth < depth, k is cut into parts of that length, and c holds one result for each part: c[parts, rows,
// columns], without bias and addend.
template <class T, class Out>
struct Product {
  std::int64_t rows, columns, depth;
  Operand<T> a;
  Operand<T> b;
  const T* bias = nullptr;      // or null
  const Out* addend = nullptr;  // or null; may be c
  Out* c;
  std::int64_t part_depth;
  Factors<T> more[kMostFactors - 1] = {};
  Turn turn = {};

  std::int64_t parts() const { return depth > part_depth ? Blocks(depth, part_depth) : 1; }
};

// Whether all rows of all operands begin at multiples of k elements.
template <int k, class T, class Out>
bool OperandsAligned(const Product<T, Out>& p) {
  const auto aligned = [](const Operand<T>& x) { return RowsAligned<k>(x.stride, x.data); };
  return aligned(p.a) && aligned(p.b) && std::ranges::all_of(p.more, [&](const Factors<T>& factors) {
           return factors.depth == 0 || (aligned(factors.a) && aligned(factors.b));
         });
}

// Where a block's tile of the result begins.
struct TileOrigin {
  std::int64_t row, column;
};

// Tiles are taken in bands of 8 rows of tiles, column after column, so that blocks that run at the same time share what
// they read through the second-level cache.
__device__ inline TileOrigin OriginOfTile(unsigned index, std::int64_t rows, std::int64_t columns, int tile_rows,
                                          int tile_columns) {
  constexpr unsigned kBand = 8;
  const auto down = static_cast<unsigned>(Blocks(rows, tile_rows)),
             across = static_cast<unsigned>(Blocks(columns, tile_columns));
  const unsigned first = index / (kBand * across) * kBand, height = min(kBand, down - first),
                 within = index - first * across;
  return {std::int64_t{first + within % height} * tile_rows, std::int64_t{within / height} * tile_columns};
}

// The product in bf16, on tensor cores (gemm_mma.cu). Out is BFloat16 or float.
template <class Out>
void MultiplyOnTensorCores(const Context& ctx, const Product<BFloat16, Out>& product);

// Products of one form, in one launch or several.
template <class T, class Out>
using Products = std::span<const Product<T, Out>>;

// The same products with the same bits in one launch, on devices whose warpgroups multiply (gemm_wgmma.cu), and whether
// they are to take them: enough tiles for half of the multiprocessors, and all rows at multiples of 16 bytes.
template <class Out>
bool WarpgroupsTake(const Context& ctx, Products<BFloat16, Out> products);
template <class Out>
void MultiplyByWarpgroups(const Context& ctx, Products<BFloat16, Out> products);
template <class Out>
bool WarpgroupsTake(const Context& ctx, const Product<BFloat16, Out>& product) {
  return WarpgroupsTake(ctx, Products<BFloat16, Out>(&product, 1));
}

// The same product with the same bits, of few rows with weights as they are stored (decode/few_rows.cu), and whether
// that kernel is to take it. If there are many columns, as in a head, more than a few rows are left to kernels with
// larger tiles, which read them fewer times.
constexpr std::int64_t kManyColumns = 8192, kMostRowsOfMany = 16;
template <class Out>
bool FewRowsTake(const Context& ctx, const Product<BFloat16, Out>& product);
template <class Out>
void MultiplyFewRows(const Context& ctx, const Product<BFloat16, Out>& product);

// A whole product by cuBLAS (gemm_cublas.cu), without bias and of a depth of at least 1. An addend that is not c is
// copied to c first.
template <class T, class Out>
void MultiplyByCublas(const Context& ctx, const Product<T, Out>& product);

}  // namespace swarr
