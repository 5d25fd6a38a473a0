// SPDX-License-Identifier: Apache-2.0
// Full and windowed attention of the same queries, keys and values, side by side: which positions notice the window.
#include <swarr/attn/attention.h>
#include <swarr/tensor/philox.h>
#include <swarr/tensor/transfer.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace {

using namespace swarr;

constexpr int kTokens = 12, kHeads = 2, kHeadDim = 8, kWindow = 4;

Tensor Random(Arena& arena, PhiloxStream& random) {
  const Tensor t = arena.New(DType::kF32, {kTokens, kHeads, kHeadDim});
  std::generate_n(t.data<float>(), t.size(), [&] { return static_cast<float>(random.NextNormal()); });
  return t;
}

}  // namespace

int main() {
  OwnContext ctx;
  Arena& arena = *ctx.arena;
  PhiloxStream random(/*key=*/1);
  AttentionInputs in{.q = Random(arena, random), .k = Random(arena, random), .v = Random(arena, random)};
  in.q_pos = arena.New(DType::kI32, {kTokens});
  for (int t = 0; t < kTokens; ++t) in.q_pos.data<std::int32_t>()[t] = t;
  std::int32_t rows[] = {0, kTokens};  // one document
  in.documents = Tensor(rows, DType::kI32, {2});

  const Tensor full = arena.NewLike(in.q), windowed = arena.NewLike(in.q);
  const Tensor lse = arena.New(DType::kF32, {kTokens, kHeads});
  in.spec = {};
  AttentionForward(ctx, full, lse, in);
  in.spec = {.window = kWindow};
  AttentionForward(ctx, windowed, lse, in);

  bool as_expected = true;
  std::printf("position  keys seen, full and windowed  largest difference\n");
  for (int t = 0; t < kTokens; ++t) {
    float largest = 0;
    for (int i = t * kHeads * kHeadDim; i < (t + 1) * kHeads * kHeadDim; ++i) {
      largest = std::max(largest, std::fabs(full.data<float>()[i] - windowed.data<float>()[i]));
    }
    const VisibleKeys seen = VisibleKeysOf(t, in.spec);
    std::printf("%8d %10d %10d %26g\n", t, t + 1, seen.recent.size(), largest);
    as_expected &= (largest == 0) == (t < kWindow);  // equal to the last bit where the window hides nothing
  }
  return as_expected ? 0 : 1;
}
