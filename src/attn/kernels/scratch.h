// SPDX-License-Identifier: Apache-2.0
// Compiled once for each instruction set: no inline function with external linkage may be left behind (kernels.h).
// What a thread needs to hold of a block of queries, forward and backward.
#pragma once

#include "attn/kernels/key_tiles.h"

namespace swarr {
namespace {

// A thread's scratch memory, for blocks that see up to `keys` keys.
template <class T>
struct Scratch {
  using Sum = Accumulator<T>;
  T *q, *dout = nullptr;                      // [rows, D] the block's rows, gathered
  T *q_rows = nullptr, *dout_rows = nullptr;  // the same as panels of rows
  Sum *s, *ds = nullptr;                      // [rows, keys] scores, then weights; their gradient
  T *p, *dp = nullptr;                        // the same, rounded to T
  Sum* o;                                     // [rows, width] a product's result
  Sum *lse, *delta = nullptr;                 // [rows]; in the forward, lse holds 1 / sum of the weights
  std::byte* packed;

  Scratch(Arena& arena, const Shape<T>& shape, std::int64_t rows, std::int64_t keys, bool backward) {
    const auto take = [&](std::int64_t n) { return arena.NewArray<T>(n); };
    const auto sums = [&](std::int64_t n) { return arena.NewArray<Sum>(n); };
    q = take(rows * shape.D);
    s = sums(rows * keys);
    p = RoundedTo(s, arena, rows * keys);
    o = sums(rows * shape.width);
    lse = sums(rows);
    const std::int64_t deepest = std::max({shape.D, keys, rows});
    packed = arena.NewArray<std::byte>(shape.kernel.PackedBytes(rows, deepest));
    if (!backward) return;
    dout = take(rows * shape.D);
    q_rows = take(PanelDepth<T>(rows) * shape.width);
    dout_rows = take(PanelDepth<T>(rows) * shape.width);
    ds = sums(rows * keys);
    dp = RoundedTo(ds, arena, rows * keys);
    delta = sums(rows);
  }

 private:
  // Memory for `sums` rounded to T: the sums themselves if they are of type T.
  static T* RoundedTo(Sum* sums, Arena& arena, std::int64_t n) {
    if constexpr (std::is_same_v<T, Sum>) {
      return sums;
    } else {
      return arena.NewArray<T>(n);
    }
  }
};

}  // namespace
}  // namespace swarr
