// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// The innermost product, on which GEMM and attention are built: a few rows of a times panels of 32 columns of b.
//
//   c[i, j] = (accumulate ? c[i, j] : 0) + sum over k ascending of a(i, k) b(k, j)
//
// Every c[i, j] is one accumulator. Its bits depend on row i of a, column j of b and the kernel. They do not depend on
// how many rows and columns are computed beside it, nor on where the sum over k is stored and taken up again, nor on
// whether a row of a was packed:
//   b  in panels of kPanel columns: row k of a panel is kPanel numbers; bf16: rows in pairs, (k, k + 1) interleaved, or
//      short panels, which some kernels read as well (short_panels.h)
//   a  packed in tiles of up to `rows` rows: for each segment of k (64 bytes of T), the segments of the rows, one after
//      another; or where it is, if the kernel can read it there (MayReadInPlace); or transposed, row k after row k - 1
// Packed bf16 is padded with zeros to PanelDepth in k; f32 and f64 are not padded.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tensor/cpu.h"
#include "tensor/kernels/short_panels.h"
#include "tensor/tensor.h"

namespace swarr {

constexpr std::int64_t kPanel = 32;

// Rows of k in a segment of a packed tile: one cache line.
template <class T>
constexpr std::int64_t kSegment = 64 / static_cast<std::int64_t>(sizeof(T));
template <class T>
constexpr std::int64_t kPairing = kDTypeOf<T> == DType::kBF16 ? 2 : 1;

constexpr std::int64_t RoundUp(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
constexpr std::int64_t CeilDiv(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// Rows of k in a packed panel for `depth` of them.
template <class T>
constexpr std::int64_t PanelDepth(std::int64_t depth) {
  return kPairing<T> == 1 ? depth : RoundUp(depth, kSegment<T>);
}
// Where element (k, j) of a panel is.
template <class T>
constexpr std::int64_t PanelIndex(std::int64_t k, std::int64_t j) {
  constexpr std::int64_t kPair = kPairing<T>;
  return k / kPair * kPair * kPanel + j * kPair + k % kPair;
}

// Panels of b, each `stride` numbers behind the one before it.
template <class T>
struct PanelView {
  const T* data = nullptr;
  std::int64_t stride = 0;
  const ShortNote* notes = nullptr;  // of their blocks, one after another, if the panels are short
  static constexpr std::int64_t kShort = kPanel * 12 / 16;  // numbers that a row of a short panel takes

  // From a panel on and k rows further on, of short panels a multiple of kSegment.
  [[gnu::always_inline]] PanelView From(std::int64_t panel, std::int64_t k) const {
    if (!notes) return {data + panel * stride + k * kPanel, stride};
    const std::int64_t numbers = panel * stride + k * kShort;
    return {data + numbers, stride, notes + numbers / (kSegment<T> * kShort)};
  }
};

// A matrix whose element (i, j) is data[i * row_stride + j * column_stride].
template <class T>
struct Strided {
  const T* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
  Strided From(std::int64_t i, std::int64_t j) const {
    return {data + i * row_stride + j * column_stride, row_stride, column_stride};
  }
};

// The rows of a tile: segment s of row i is at element i * row + s * segment, and its numbers lie `step` apart. They
// lie side by side, or they are columns of a transposed matrix: then `row` is 1, and T is f32 or f64.
struct TileRows {
  const std::byte* data;
  std::int64_t row, segment, step = 1;
  const std::byte* ahead = nullptr;  // what products to come read: some kernels ask for kLinesAhead lines a segment
};
constexpr int kLinesAhead = 3;

// One way to compute the product.
template <class T>
struct TileKernel {
  using Sum = Accumulator<T>;
  int rows;         // most rows of one tile
  int panels;       // that it multiplies at once; of more it takes one group after another
  int packed_size;  // bytes of a packed element
  void (*pack)(Strided<T> a, int rows, std::int64_t depth, std::byte* to);
  // So many panels of PanelDepth rows each; c has kPanel columns for each.
  void (*multiply)(int rows, std::int64_t panels, std::int64_t depth, const TileRows& a, const PanelView<T>& b,
                   bool accumulate, Sum* c, std::int64_t c_stride);
  // Each of up to kEach rows times a panel of its own, into kPanel columns of c. A row alone waits for its own sums.
  static constexpr int kEach = 4;
  void (*multiply_each)(int rows, std::int64_t depth, const TileRows* a, const T* const* b, bool accumulate, Sum* c,
                        std::int64_t c_stride);
  int each_from = 1;  // queries of a step from which this is quicker for their heads than head after head
  // Packs rows [0, depth) and columns [0, valid) of b as a short panel with the notes of its blocks, and tells whether
  // it fits. Null if the kernel reads no short panels.
  bool (*shorten)(Strided<T> b, std::int64_t depth, std::int64_t valid, T* to, ShortNote* notes) = nullptr;
  bool fetches_ahead = true;  // whether what is read next is asked for in time: it comes sooner than a tile is done

  // Whether rows of a, elements of k side by side, can be read where they are: they are not widened, and no padding is
  // wanted.
  [[gnu::always_inline]] bool MayReadInPlace(std::int64_t depth) const {
    return packed_size == static_cast<int>(sizeof(T)) && (kPairing<T> == 1 || depth % kSegment<T> == 0);
  }

  // Bytes of `n` packed rows: tiles of up to `rows`.
  [[gnu::always_inline]] std::int64_t PackedBytes(std::int64_t n, std::int64_t depth) const {
    return n * RoundUp(depth, kSegment<T>) * packed_size;
  }
  // Where row r of `n` packed rows begins, and the bytes from one of its segments to the next, for who writes rows in
  // place of `pack`.
  struct PackedRow {
    std::byte* begin;
    std::int64_t step;
  };
  [[gnu::always_inline]] PackedRow RowOf(std::byte* packed, std::int64_t n, std::int64_t depth, std::int64_t r) const {
    const std::int64_t tile = r / rows * rows, segment = kSegment<T> * packed_size;
    return {packed + PackedBytes(tile, depth) + (r - tile) * segment, std::min<std::int64_t>(n - tile, rows) * segment};
  }
};

// tile_kernel.cc: vectors of the set's width. A product and its sum are fused where the set can.
template <class Set>
struct TileKernels {
  static const TileKernel<double>& F64();
  static const TileKernel<float>& F32();
  static const TileKernel<BFloat16>& BF16();  // widens to f32; products are exact there
};
// tile_dot.cc, tile_amx.cc: the processor's own products of bf16.
const TileKernel<BFloat16>& DotTileKernel();
const TileKernel<BFloat16>& AmxTileKernel();

// The kernel for T on `cpu`: one per dtype and processor, whatever the shape.
template <class Set, class T>
const TileKernel<T>& TileKernelOf([[maybe_unused]] Cpu cpu) {
  if constexpr (kDTypeOf<T> == DType::kF64) return TileKernels<Set>::F64();
  if constexpr (kDTypeOf<T> == DType::kF32) return TileKernels<Set>::F32();
  if constexpr (kDTypeOf<T> == DType::kBF16) {
#ifdef SWARR_X86_KERNELS
    if (cpu == Cpu::kAmx) return AmxTileKernel();
    if (cpu == Cpu::kAvx512Bf16) return DotTileKernel();
#endif
    return TileKernels<Set>::BF16();
  }
}

// gemm_eigen.cc: a whole product by Eigen, c[rows, columns] (+)= a[rows, depth] b[depth, columns], c contiguous.
template <class T>
void EigenGemm(std::int64_t rows, std::int64_t columns, std::int64_t depth, Strided<T> a, Strided<T> b, bool accumulate,
               T* c);

// Cuts `rows` into a constant and panels into groups: calls multiply.operator()<rows, count>(b, c) for `count` panels
// side by side, at most kMost. A single row waits for its own sums; more panels give it more to do meanwhile.
namespace {
template <int kRows, int kMost = 1, class T, class F>
void ForPanels(int rows, std::int64_t panels, const PanelView<T>& b, Accumulator<T>* c, const F& multiply) {
  if constexpr (kRows > 0) {
    if (rows < kRows) return ForPanels<kRows - 1, kMost>(rows, panels, b, c, multiply);
    const T* from = b.data;
    const auto take = [&]<int kCount>() {
      for (; panels >= kCount; panels -= kCount, from += kCount * b.stride, c += kCount * kPanel) {
        multiply.template operator()<kRows, kCount>(from, c);
      }
    };
    if constexpr (kRows == 1) take.template operator()<4>();
    if constexpr (kRows == 1 || kMost == 2) take.template operator()<2>();
    take.template operator()<1>();
  }
}
}  // namespace

}  // namespace swarr
