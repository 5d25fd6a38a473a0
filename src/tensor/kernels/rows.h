// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// How kernels share out their work among threads, so that results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "tensor/context.h"
#include "tensor/threads.h"

namespace swarr {

// Up to this many elements of work, one thread is done sooner than two would have met.
constexpr std::int64_t kParallelWork = 16384;

// As many parts as there are threads, but none without a piece of work.
[[gnu::always_inline]] inline int PartsFor(int threads, std::int64_t pieces) {
  return static_cast<int>(std::clamp<std::int64_t>(pieces, 1, threads));
}

// Calls f(begin, end) for consecutive ranges of [0, count), at most one for each thread.
template <class F>
void ForRanges(int threads, std::int64_t count, F&& f) {
  const int parts = PartsFor(threads, count);
  ForParts(parts, [&](std::int64_t part) { f(part * count / parts, (part + 1) * count / parts); });
}

// Calls f(thread, task) for every task of [0, count). A thread that is done with one takes the next, for tasks that
// take different times. No two tasks of one thread run at once.
template <class F>
void ForTasks(int threads, std::int64_t count, F&& f) {
  std::atomic<std::int64_t> next = 0;
  ForParts(PartsFor(threads, count), [&](int thread) {
    for (std::int64_t task = next++; task < count; task = next++) f(thread, task);
  });
}

// Calls f(thread, piece) for every piece of [0, count). A thread takes the pieces of its own share in order, and then
// what is left of the others' shares: one that computes more slowly, as beside another program, keeps nobody waiting
// for more than a piece. No two pieces of one thread run at once.
template <class F>
void ForShares(int threads, std::int64_t count, F&& f) {
  constexpr int kMostShares = 64;
  // Shares that are not used are not initialised, and one alone is taken from without an atomic addition: a small op
  // has little more to do.
  struct alignas(64) Share {
    std::int64_t next, end;
    std::int64_t Take(bool alone) {
      return alone ? next++ : std::atomic_ref(next).fetch_add(1, std::memory_order_relaxed);
    }
  };
  const int parts = PartsFor(threads, count), shares = std::min(parts, kMostShares);
  Share of[kMostShares];
  for (int s = 0; s < shares; ++s) {
    of[s] = {s * count / shares, (s + 1) * count / shares};
  }
  ForParts(parts, [&](int thread) {
    for (int i = 0; i < shares; ++i) {
      Share& share = of[(thread + i) % shares];
      const auto take = [&] { return share.Take(parts == 1); };
      for (std::int64_t piece = take(); piece < share.end; piece = take()) f(thread, piece);
    }
  });
}

// The threads to use for this many elements of work.
[[gnu::always_inline]] inline int ThreadsFor(const Context& ctx, std::int64_t work) {
  return work > kParallelWork ? ctx.threads : 1;
}

// Calls f(row) for every row; one thread takes a row whole.
template <class F>
void ForRows(const Context& ctx, std::int64_t rows, std::int64_t work_per_row, F&& f) {
  const int threads = ThreadsFor(ctx, rows * work_per_row);
  constexpr std::int64_t kPiecesOfAThread = 8;
  const std::int64_t pieces = threads == 1 ? 1 : std::min(rows, kPiecesOfAThread * threads);
  ForShares(threads, pieces, [&](int, std::int64_t piece) {
    for (std::int64_t n = piece * rows / pieces; n < (piece + 1) * rows / pieces; ++n) f(n);
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
// has one order. A chunk is at least a cache line wide, so that threads share few; and no wider than that, since an
// embedding's gradient goes to and fro over the rows of its sums.
template <class F>
void ForColumns(const Context& ctx, std::int64_t columns, std::int64_t rows, F&& f) {
  ForChunks<32>(ctx, columns, rows, f);
}

}  // namespace swarr
