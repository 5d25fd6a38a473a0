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
  T *q, *dout = nullptr;  // [rows, D] the block's rows, gathered
  // Scores, and e_j = dout . v_j (ScoreSteps). In the backward then weights and their gradients.
  Sum *s, *ds = nullptr;
  T *p = nullptr, *dp = nullptr;  // these, rounded to T
  T* panel = nullptr;             // a tile of those as a panel, if that is not what it is
  Sum* o;                         // [rows, width] a product's result
  Sum *lse, *delta = nullptr;     // [rows]; in the forward, lse holds 1 / sum of the weights
  std::byte* packed;

  Scratch(Arena& arena, const Shape<T>& shape, std::int64_t rows, std::int64_t keys, bool backward) {
    const auto take = [&](std::int64_t n) { return arena.NewArray<T>(n); };
    const auto sums = [&](std::int64_t n) { return arena.NewArray<Sum>(n); };
    q = take(rows * shape.D);
    const std::int64_t scores = std::max(rows * keys, keys / kKeyTile * ScoreSteps::ByTile(rows).tile);
    s = sums(scores);
    o = sums(std::max<std::int64_t>(rows, kKeyTile) * shape.width);
    lse = sums(rows);
    packed = arena.NewArray<std::byte>(
        std::max(shape.kernel.PackedBytes(rows, std::max(shape.D, keys)), BlockBytes(shape.kernel, shape.D, rows)));
    if (!backward) return;
    dout = take(rows * shape.D);
    ds = sums(scores);
    p = RoundedTo(s, arena, scores);
    dp = RoundedTo(ds, arena, scores);
    if constexpr (kPairing<T> != 1) panel = take(PanelDepth<T>(rows) * kPanel);
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
