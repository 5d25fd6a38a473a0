// SPDX-License-Identifier: Apache-2.0
// The innermost part of gemm.cc, in a file of its own because it alone is compiled with contraction to fused
// multiply-adds (CMakeLists.txt).
#pragma once

#include <cstdint>

namespace swarr {

// Bytes of the widest vector register, and the tile that fills the register file: kTileRows x 2 vectors of
// accumulators.
#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 8;
#else
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 4;
#endif
template <class T>
constexpr int kTileColumns = 2 * kVectorBytes / static_cast<int>(sizeof(T));

// A matrix whose element (i, j) is data[i * row_stride + j * column_stride].
template <class T>
struct Strided {
  const T* data;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

// c[i, j] = (accumulate ? c[i, j] : 0) + sum over k ascending of a(i, k) b[k, j], for `rows` <= kTileRows rows i and
// kTileColumns columns j. b is packed: row k starts at b + k * kTileColumns. c has row stride `c_stride`.
template <class T>
void GemmTile(int rows, std::int64_t depth, Strided<T> a, const T* b, bool accumulate, T* c, std::int64_t c_stride);

}  // namespace swarr
