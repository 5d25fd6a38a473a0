// SPDX-License-Identifier: Apache-2.0
// Eigen's product: an independent check of gemm.cc, and an alternative to it for measurements (`--gemm eigen`). Its
// bits depend on the number of rows and threads, because Eigen packs and vectorises by shape. So it is never used where
// exactness is promised.
#include <Eigen/Core>

#include "tensor/kernels/tile_kernel.h"

namespace swarr {

template <class T>
void EigenGemm(std::int64_t rows, std::int64_t columns, std::int64_t depth, Strided<T> a, Strided<T> b, bool accumulate,
               T* c) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const Eigen::Map<const Matrix, 0, Stride> ma(a.data, rows, depth, Stride(a.row_stride, a.column_stride));
  const Eigen::Map<const Matrix, 0, Stride> mb(b.data, depth, columns, Stride(b.row_stride, b.column_stride));
  Eigen::Map<Matrix> mc(c, rows, columns);
  if (!accumulate) mc.setZero();
  mc.noalias() += ma * mb;
}

template void EigenGemm(std::int64_t, std::int64_t, std::int64_t, Strided<float>, Strided<float>, bool, float*);
template void EigenGemm(std::int64_t, std::int64_t, std::int64_t, Strided<double>, Strided<double>, bool, double*);

}  // namespace swarr
