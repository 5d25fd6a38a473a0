// SPDX-License-Identifier: Apache-2.0
// How kernels share out their work among threads. Both ways leave results independent of the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tensor/context.h"

namespace swarr {

// Below this many elements of work a parallel region costs more than it saves.
constexpr std::int64_t kParallelWork = 16384;

// Calls f(row) for every row; each row is one thread's.
template <class F>
void ForRows(const Context& ctx, std::int64_t rows, std::int64_t work_per_row, F&& f) {
#pragma omp parallel for num_threads(ctx.threads) schedule(static) if (rows * work_per_row > kParallelWork)
  for (std::int64_t n = 0; n < rows; ++n) f(n);
}

// to[i] = g(i) if the gradient is fresh (tensor.h), else to[i] += g(i); computed in the type of g, rounded once.
template <class T, class F>
[[gnu::always_inline]] inline void WriteGradient(bool fresh, std::int64_t n, T* to, F&& g) {
  using Sum = Accumulator<T>;
  if (fresh) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(g(i));
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(static_cast<Sum>(to[i]) + g(i));
  }
}

// Calls f(begin, end) for blocks of columns that cover [0, columns); within its block f adds rows in ascending order,
// so that a sum over rows has one order. A block is at least a cache line wide, so threads share few lines.
template <class F>
void ForColumnBlocks(const Context& ctx, std::int64_t columns, std::int64_t rows, F&& f) {
  constexpr std::int64_t kBlock = 32;
#pragma omp parallel for num_threads(ctx.threads) schedule(static) if (rows * columns > kParallelWork)
  for (std::int64_t c = 0; c < columns; c += kBlock) f(c, std::min(columns, c + kBlock));
}

}  // namespace swarr
