// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>
#include <vector>

#include "attn/attention.h"

namespace swarr {

void AttentionReference(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        AttentionSpec spec) {
  const std::int64_t T = q.dim(0), H = q.dim(1), D = q.dim(2), G = k.dim(1);
  DispatchSum(q.dtype(), [&]<class R>() {
    auto at = [&](const Tensor& t, std::int64_t n, std::int64_t head, std::int64_t d) -> R& {
      return t.data<R>()[(n * t.dim(1) + head) * D + d];
    };
    for (std::int64_t i = 0; i < T; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const std::int64_t g = h / (H / G);
        R largest = -std::numeric_limits<R>::infinity();
        std::vector<R> score(static_cast<std::size_t>(T), largest);
        for (std::int64_t j = 0; j < T; ++j) {
          if (!Visible(static_cast<int>(i), static_cast<int>(j), spec)) continue;
          R dot = 0;
          for (std::int64_t d = 0; d < D; ++d) dot += at(q, i, h, d) * at(k, j, g, d);
          score[static_cast<std::size_t>(j)] = dot / std::sqrt(static_cast<R>(D));
          largest = std::max(largest, score[static_cast<std::size_t>(j)]);
        }
        R sum = 0;
        for (R s : score) sum += std::exp(s - largest);
        lse.data<R>()[i * H + h] = largest + std::log(sum);
        for (std::int64_t d = 0; d < D; ++d) {
          R value = 0;
          for (std::int64_t j = 0; j < T; ++j) {
            value += std::exp(score[static_cast<std::size_t>(j)] - largest) / sum * at(v, j, g, d);
          }
          at(out, i, h, d) = value;
        }
      }
    }
  });
}

}  // namespace swarr
