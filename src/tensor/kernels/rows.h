// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// How kernels share out their work among threads, so that results do not depend on the number of threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "tensor/context.h"

namespace swarr {

// Below this many elements of work a parallel region costs more than it saves.
constexpr std::int64_t kParallelWork = 16384;

// Calls f(begin, end) for as many consecutive ranges of [0, count) as there are threads. A single thread opens no
// parallel region, which costs time even if nobody else is in it.
template <class F>
void ForRanges(int threads, std::int64_t count, F&& f) {
  if (threads == 1) return f(std::int64_t{0}, count);
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
    f(thread * count / team, (thread + 1) * count / team);
  }
}

// The threads to use for this many elements of work.
[[gnu::always_inline]] inline int ThreadsFor(const Context& ctx, std::int64_t work) {
  return work > kParallelWork ? ctx.threads : 1;
}

// Calls f(row) for every row; one thread takes a row whole.
template <class F>
void ForRows(const Context& ctx, std::int64_t rows, std::int64_t work_per_row, F&& f) {
  ForRanges(ThreadsFor(ctx, rows * work_per_row), rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) f(n);
  });
}

// to[i] = g(i) if the gradient is fresh (tensor.h), else to[i] += g(i). Computes in the type of g and rounds once.
template <class T, class F>
[[gnu::always_inline]] inline void WriteGradient(bool fresh, std::int64_t n, T* to, F&& g) {
  using Sum = Accumulator<T>;
  if (fresh) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(g(i));
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(static_cast<Sum>(to[i]) + g(i));
  }
}

// Calls f(begin, end) for chunks of kChunk elements that cover [0, n), with this much work for each element.
template <std::int64_t kChunk, class F>
void ForChunks(const Context& ctx, std::int64_t n, std::int64_t work, F&& f) {
  ForRows(ctx, (n + kChunk - 1) / kChunk, kChunk * work,
          [&](std::int64_t chunk) { f(chunk * kChunk, std::min(n, (chunk + 1) * kChunk)); });
}

// Calls f(begin, end) for chunks of the elements, for kernels that go element by element.
template <class F>
void ForElements(const Context& ctx, std::int64_t n, F&& f) {
  ForChunks<4096>(ctx, n, 1, f);
}

// Calls f(begin, end) for chunks of columns. Within its chunk f adds rows in ascending order, so that a sum over rows
// has one order. A chunk is at least a cache line wide, so that threads share few lines.
template <class F>
void ForColumns(const Context& ctx, std::int64_t columns, std::int64_t rows, F&& f) {
  ForChunks<32>(ctx, columns, rows, f);
}

}  // namespace swarr
