// SPDX-License-Identifier: Apache-2.0
// Eigen's product: an independent check of gemm.cc, and an alternative to it for measurements (`--gemm eigen`). Its
// bits depend on the number of rows and threads, because Eigen packs and vectorises by shape. So it is never used where
// exactness is promised.
#pragma once

#include "tensor/kernels/tile_kernel.h"

namespace swarr {

// c[rows, columns] (+)= a[rows, depth] b[depth, columns], c contiguous.
template <class T>
void EigenGemm(std::int64_t rows, std::int64_t columns, std::int64_t depth, Strided<T> a, Strided<T> b, bool accumulate,
               T* c);

}  // namespace swarr
