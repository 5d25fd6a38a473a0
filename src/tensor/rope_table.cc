// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tensor/ops.h"

namespace swarr {

void FillRopeTable(const Tensor& table, double theta) {
  const std::int64_t P = table.dim(0), D = table.dim(1), half = D / 2;
  DispatchSum(table.dtype(), [&]<class T>() {
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
        table.data<T>()[p * D + i] = static_cast<T>(std::cos(angle));
        table.data<T>()[p * D + half + i] = static_cast<T>(std::sin(angle));
      }
    }
  });
}

}  // namespace swarr
