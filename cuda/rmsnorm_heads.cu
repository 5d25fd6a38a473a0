// SPDX-License-Identifier: Apache-2.0
// The norm of heads and their rotary embedding in one pass, for heads of 128 in bf16. The plain twins are the forwards
// of rmsnorm.cu and rope.cu, one after the other: the same bits (cuda_heads_test.cc).
//
// Eight threads take some heads of a token, kAtOnce, which are turned by the same angles. Thread t has the elements
// from 8 t and from 64 + 8 t on: both numbers of eight pairs that are turned, and what lanes 4 t to 4 t + 3 of a warp
// have in rmsnorm.cu. So it makes the sums of squares of those four lanes, and a butterfly over threads and then over
// its own four adds the same numbers in the same order.
#include "cuda/pack.h"
#include "cuda/rope.h"
#include "tensor/fused/norm.h"

namespace swarr {
namespace {

constexpr int kHead = 128, kHalf = kHead / 2, kRun = kPack<BFloat16>, kThreadsOfHead = kHalf / kRun, kAtOnce = 2;
constexpr int kBlockThreads = 128;
using Run = Pack<BFloat16, kRun>;
using Words = Pack<std::uint32_t, kRun / 2>;  // the same, in pairs
using Angles = Pack<float, kRun>;

// Of one head, with all threads that have a share of it.
__device__ float SumOfSquares(const Run& a, const Run& b) {
  constexpr int kLanes = kRun / 2;  // of rmsnorm.cu
  float sums[kLanes];
#pragma unroll
  for (int lane = 0; lane < kLanes; ++lane) {
    const float x[] = {float(a.at[2 * lane]), float(a.at[2 * lane + 1]), float(b.at[2 * lane]),
                       float(b.at[2 * lane + 1])};
    sums[lane] = x[0] * x[0];
#pragma unroll
    for (int i = 1; i < 4; ++i) sums[lane] += x[i] * x[i];
  }
#pragma unroll
  for (int distance = kThreadsOfHead / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (float& sum : sums) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

__device__ void NormAndTurn(Words& turned_a, Words& turned_b, const Run& a, const Run& b, float r, const Run& weight_a,
                            const Run& weight_b, const Angles& cosine, const Angles& sine) {
#pragma unroll
  for (int i = 0; i < kRun; i += 2) {
    float from_a[2], from_b[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      from_a[e] = Normed(float(a.at[i + e]), r, float(weight_a.at[i + e]));
      from_b[e] = Normed(float(b.at[i + e]), r, float(weight_b.at[i + e]));
    }
    TurnRounded(from_a, from_b, {cosine.at[i], cosine.at[i + 1]}, {sine.at[i], sine.at[i + 1]});
    turned_a.at[i / 2] = RoundPair(from_a[0], from_a[1]);
    turned_b.at[i / 2] = RoundPair(from_b[0], from_b[1]);
  }
}

// Grid: the tokens, the heads by kAtOnce.
__global__ void __launch_bounds__(kBlockThreads, 6)
    NormAndTurnKernel(std::int64_t N, int H, float eps, BFloat16* y, float* rstd, const BFloat16* x, const BFloat16* w,
                      const std::int32_t* positions, const float* table) {
  const std::int64_t n = (std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x) / kThreadsOfHead, row = min(n, N - 1);
  const int first = static_cast<int>(blockIdx.y) * kAtOnce, heads = n < N ? min(kAtOnce, H - first) : 0,
            at = static_cast<int>(threadIdx.x) % kThreadsOfHead * kRun;
  const auto run = [](const auto* from) { return *reinterpret_cast<const Run*>(from); };
  const auto angles = [](const float* from) { return *reinterpret_cast<const Angles*>(from); };
  WaitForPrevious();
  const std::int64_t begin = (row * H + first) * kHead + at;
  Run a[kAtOnce] = {}, b[kAtOnce] = {};
#pragma unroll
  for (int head = 0; head < kAtOnce; ++head) {
    if (head >= heads) continue;
    a[head] = run(x + begin + head * kHead);
    b[head] = run(x + begin + head * kHead + kHalf);
  }
  const float* turn = table + std::int64_t{positions[row]} * kHead + at;
  const Angles cosine = angles(turn), sine = angles(turn + kHalf);
  const Run weight_a = run(w + at), weight_b = run(w + at + kHalf);
#pragma unroll
  for (int head = 0; head < kAtOnce; ++head) {
    const float r = InverseRms(SumOfSquares(a[head], b[head]), std::int64_t{kHead}, eps);
    if (head >= heads) continue;
    Words turned_a, turned_b;
    NormAndTurn(turned_a, turned_b, a[head], b[head], r, weight_a, weight_b, cosine, sine);
    *reinterpret_cast<Words*>(y + begin + head * kHead) = turned_a;
    *reinterpret_cast<Words*>(y + begin + head * kHead + kHalf) = turned_b;
    if (at == 0) rstd[row * H + first + head] = r;
  }
}

}  // namespace

bool FusedNormAndTurn(const Context& ctx, const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& w,
                      double eps, const RowPositions& rows) {
  if (!ctx.stream || ctx.trace_non_finite || x.dtype() != DType::kBF16 || x.dim(2) != kHead) return false;
  const std::int64_t N = x.dim(0), H = x.dim(1);
  if (!Aligned<kRun>(y.data<BFloat16>(), x.data<BFloat16>(), w.data<BFloat16>(), rows.table.data<float>()))
    return false;
  const dim3 grid(static_cast<unsigned>(Blocks(N, kBlockThreads / kThreadsOfHead)),
                  static_cast<unsigned>(Blocks(H, kAtOnce)));
  Launch(ctx, {.blocks = grid, .threads = kBlockThreads, .early = true}, NormAndTurnKernel, N, static_cast<int>(H),
         static_cast<float>(eps), y, rstd, x, w, rows.positions, rows.table);
  return true;
}

}  // namespace swarr
