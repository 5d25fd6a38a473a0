// SPDX-License-Identifier: Apache-2.0
#include "tensor/gemm_kernel.h"

#include <cstring>

namespace swarr {
namespace {

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};

template <int kRows, class T>
void Tile(std::int64_t depth, Strided<T> a, const T* b, bool accumulate, T* c, std::int64_t c_stride) {
  using Vector = typename VectorOf<T>::type;
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  Vector sum[kRows][2] = {};
  if (accumulate) {
    for (int i = 0; i < kRows; ++i) std::memcpy(sum[i], c + i * c_stride, 2 * kVectorBytes);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Vector b0, b1;
    std::memcpy(&b0, b + k * 2 * kLanes, kVectorBytes);
    std::memcpy(&b1, b + k * 2 * kLanes + kLanes, kVectorBytes);
    const T* column = a.data + k * a.column_stride;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const T x = column[i * a.row_stride];
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
  for (int i = 0; i < kRows; ++i) std::memcpy(c + i * c_stride, sum[i], 2 * kVectorBytes);
}

}  // namespace

template <class T>
void GemmTile(int rows, std::int64_t depth, Strided<T> a, const T* b, bool accumulate, T* c, std::int64_t c_stride) {
  switch (rows) {
    case 1:
      return Tile<1>(depth, a, b, accumulate, c, c_stride);
    case 2:
      return Tile<2>(depth, a, b, accumulate, c, c_stride);
    case 3:
      return Tile<3>(depth, a, b, accumulate, c, c_stride);
    case 4:
      return Tile<4>(depth, a, b, accumulate, c, c_stride);
#ifdef __AVX512F__
    case 5:
      return Tile<5>(depth, a, b, accumulate, c, c_stride);
    case 6:
      return Tile<6>(depth, a, b, accumulate, c, c_stride);
    case 7:
      return Tile<7>(depth, a, b, accumulate, c, c_stride);
    case 8:
      return Tile<8>(depth, a, b, accumulate, c, c_stride);
#endif
    default:
      return;
  }
}

template void GemmTile(int, std::int64_t, Strided<float>, const float*, bool, float*, std::int64_t);
template void GemmTile(int, std::int64_t, Strided<double>, const double*, bool, double*, std::int64_t);

}  // namespace swarr
