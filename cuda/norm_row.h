// SPDX-License-Identifier: Apache-2.0
// RmsNorm of rows in shared memory, with the bits of rmsnorm.cu: lane l takes the packs l, l + 32, ... of k elements,
// and a butterfly adds the lanes' sums of squares.
#pragma once

#include "cuda/pack.h"
#include "tensor/kernels/formulas.h"

namespace swarr {

// Calls f.template operator()<k>() with the size of the packs of rows of C elements: 16 bytes, or 2 elements where that
// would leave lanes idle.
template <class T, class F>
__host__ __device__ void WithNormPack(std::int64_t C, F&& f) {
  if (C >= kWarp * kPack<T>) {
    f.template operator()<kPack<T>>();
  } else {
    f.template operator()<2>();
  }
}

// A lane's sums of `count` rows, added up over the lanes of the warp by the pairs of WarpSum. Each lane gets the sum of
// one row, lane * count / 32: at first halves of the lanes take halves of the rows, and so on.
template <int count, class Sum>
__device__ inline Sum SumOfLanesRow(Sum (&sums)[count]) {
#pragma unroll
  for (int distance = kWarp / 2, kept = count; distance > 0; distance /= 2) {
    if (kept == 1) {
      sums[0] += __shfl_xor_sync(0xffffffffu, sums[0], distance);
      continue;
    }
    kept /= 2;
    const bool upper = (threadIdx.x & distance) != 0;
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      const Sum sent = upper ? sums[i] : sums[i + kept];
      sums[i] = (upper ? sums[i + kept] : sums[i]) + __shfl_xor_sync(0xffffffffu, sent, distance);
    }
  }
  return sums[0];
}

// Norms `count` rows of C elements in place, by one warp. at(i, c) is the address of element c of row i; packs from
// there on lie side by side. w[C] may be in any memory.
template <int count, class T, class At>
__device__ inline void NormRowsInPlace(int C, Accumulator<T> eps, const T* w, At&& at) {
  using Sum = Accumulator<T>;
  WithNormPack<T>(C, [&]<int k>() {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    Sum r[count] = {};
    for (int c = lane * k; c < C; c += kWarp * k) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const auto value = *reinterpret_cast<const Pack<T, k>*>(at(i, c));
#pragma unroll
        for (int j = 0; j < k; ++j) r[i] += Sum(value.at[j]) * Sum(value.at[j]);
      }
    }
    const Sum inverse = InverseRms(SumOfLanesRow(r), std::int64_t{C}, eps);
#pragma unroll
    for (int i = 0; i < count; ++i) r[i] = __shfl_sync(0xffffffffu, inverse, i * (kWarp / count));
    for (int c = lane * k; c < C; c += kWarp * k) {
      const auto weight = *reinterpret_cast<const Pack<T, k>*>(w + c);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        auto& value = *reinterpret_cast<Pack<T, k>*>(at(i, c));
#pragma unroll
        for (int j = 0; j < k; ++j) value.at[j] = static_cast<T>(Normed(Sum(value.at[j]), r[i], Sum(weight.at[j])));
      }
    }
  });
}

}  // namespace swarr
