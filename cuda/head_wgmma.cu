// SPDX-License-Identifier: Apache-2.0
// The LM head with log-softmax, fused (tensor/fused_head.h). The group that has multiplied a tile of logits takes its
// softmax while the other multiplies: a lane of a product's sums has the entries of a row's slices that
// cuda/softmax_row.h deals out. Forward: the largest logit and the two sums of each slice go to memory, 3 numbers for
// 64 logits, and a second kernel merges them. Backward: the logits are multiplied again, and the gradient is written in
// bf16. The plain twins are the products of gemm_mma.cu and the kernels of log_softmax.cu: the same bits
// (cuda_gemm_test.cc).
#include "cuda/product_wgmma.h"
#include "cuda/softmax_row.h"
#include "tensor/fused_head.h"
#include "tensor/kernels/formulas.h"

namespace swarr {
namespace {

using Part = SoftmaxPart<float>;
using Logits = Product<BFloat16, float>;  // c is null

constexpr std::int64_t kRowsAtOnce = 16384;  // whose parts are held

// z = this lane's entries of the slice `at` / 2 of a tile's 64 rows, of the upper or lower 8 rows that the lane has.
template <std::size_t n>
__device__ void LoadEntries(int at, const float (&sums)[n], float (&z)[kLaneEntries]) {
#pragma unroll
  for (int i = 0; i < kLaneEntries; ++i) z[i] = sums[(at / 2 * 8 + i / 2) * 4 + at % 2 * 2 + i % 2];
}

// Keeps of each slice its part, and each row's logit of its target.
struct TakeParts {
  Part* parts;  // [rows, slices]
  float* chosen;
  const std::int32_t* targets;

  template <int kColumns>
  __device__ void Take(const Logits& p, TileOrigin origin, const float (&sums)[kColumns / 2]) const {
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp;
    const std::int64_t slices = Blocks(p.columns, kSlice);
#pragma unroll
    for (int at = 0; at < kColumns / kSlice * 2; ++at) {
      const std::int64_t row = origin.row + warp * 16 + at % 2 * 8 + lane / 4, first = origin.column + at / 2 * kSlice;
      const int columns = static_cast<int>(p.columns - first);
      const int target = row < p.rows ? static_cast<int>(targets[row] - first) : -1;
      float z[kLaneEntries];
      LoadEntries(at, sums, z);
      if (columns < kSlice) {
#pragma unroll
        for (int i = 0; i < kLaneEntries; ++i) {
          if (PairInSlice(i / 2) + i % 2 >= columns) z[i] = kLowest<float>;
        }
      }
      if (target >= 0 && target < kSlice) {
#pragma unroll
        for (int i = 0; i < kLaneEntries; ++i) {
          if (PairInSlice(i / 2) + i % 2 == target) chosen[row] = z[i];
        }
      }
      const Part part = PartOfSlice(z);
      if (lane % kSliceLanes == 0 && row < p.rows && columns > 0) parts[row * slices + first / kSlice] = part;
    }
  }
};

// A warp merges the parts of a row. logp holds the target's logit.
__global__ void FinishKernel(std::int64_t rows, std::int64_t slices, float* logp, float* lse, float* entropy,
                             const Part* parts) {
  const std::int64_t n = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  WaitForPrevious();
  if (n >= rows) return;
  Part of_lane{kLowest<float>, 0, 0};
  for (std::int64_t s = lane; s < slices; s += kWarp) of_lane = Merge(of_lane, parts[n * slices + s]);
  const SoftmaxRow<float> softmax = WarpSoftmaxOf(of_lane);
  if (lane != 0) return;
  lse[n] = softmax.lse;
  entropy[n] = softmax.entropy;
  logp[n] -= softmax.lse;
}

// Writes the gradients of logits. A null dentropy stands for zeros.
struct TakeGradients {
  BFloat16* dlogits;
  const float *dlogp, *dentropy, *lse, *entropy;
  const std::int32_t* targets;

  template <int kColumns>
  __device__ void Take(const Logits& p, TileOrigin origin, const float (&sums)[kColumns / 2]) const {
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x % kGroup / kWarp;
#pragma unroll
    for (int at = 0; at < kColumns / kSlice * 2; ++at) {
      const std::int64_t row = origin.row + warp * 16 + at % 2 * 8 + lane / 4, in = min(row, p.rows - 1);
      const std::int64_t first = origin.column + at / 2 * kSlice, column = first + lane % 4 * 8;
      const std::int64_t columns = row < p.rows ? p.columns - column : 0;
      const float c = dlogp[in], log_sum = lse[in];
      const int target = static_cast<int>(targets[in] - first);
      float z[kLaneEntries];
      LoadEntries(at, sums, z);
      const float dh = dentropy ? dentropy[in] : 0, h = dentropy ? entropy[in] : 0;
#pragma unroll
      for (int i = 0; i < kLaneEntries; ++i) {
        const float log_p = z[i] - log_sum, prob = Exp(log_p);
        z[i] = dentropy ? LogitGradient(prob, log_p, c, dh, h) : LogitGradient(prob, c);
      }
      if (target >= 0 && target < kSlice) {
#pragma unroll
        for (int i = 0; i < kLaneEntries; ++i) {
          if (PairInSlice(i / 2) + i % 2 == target) z[i] = c + z[i];
        }
      }
#pragma unroll
      for (int quads = 0; quads < 2; ++quads) {
        Quad quad;
#pragma unroll
        for (int i = 0; i < 8; ++i) quad.at[i] = z[quads * 8 + i];
        quad.Store(dlogits + row * p.columns + column + quads * 32, quads * 32 < columns);
      }
    }
  }
};

Logits LogitsOf(const Tensor& x, const Tensor& w) {
  const std::int64_t C = x.dim(1);
  return {.rows = x.dim(0),
          .columns = w.dim(0),
          .depth = C,
          .a = {x.data<BFloat16>(), C, false},
          .b = {w.data<BFloat16>(), C, false},
          .c = nullptr,
          .part_depth = C};
}

}  // namespace

bool FusedHeadTakes(const Context& ctx, const LogprobInputs& in) {
  return ctx.stream && ctx.gemm == GemmKind::kOwn && in.x.dtype() == DType::kBF16 &&
         WarpgroupsTake(ctx, LogitsOf(in.x, in.w));
}

void FusedTokenLogprob(const Context& ctx, const Tensor& logp, const Tensor& lse, const Tensor& entropy,
                       const LogprobInputs& in) {
  const std::int64_t N = in.x.dim(0), slices = Blocks(in.w.dim(0), kSlice);
  for (std::int64_t begin = 0; begin < N; begin += kRowsAtOnce) {
    ArenaScope scope(*ctx.arena);
    const std::int64_t end = std::min(N, begin + kRowsAtOnce), rows = end - begin;
    Part* parts = ctx.arena->NewArray<Part>(rows * slices);
    const Tensor chosen = logp.Rows(begin, end);
    LaunchProduct<Square, false, false>(
        ctx, LogitsOf(in.x.Rows(begin, end), in.w),
        TakeParts{parts, chosen.data<float>(), in.targets.Rows(begin, end).data<std::int32_t>()});
    Launch(ctx, {.blocks = Blocks(rows, kWarps), .early = true}, FinishKernel, rows, slices, chosen,
           lse.Rows(begin, end), entropy.Rows(begin, end), parts);
  }
}

void FusedLogitGradients(const Context& ctx, const Tensor& dlogits, const Tensor& dlogp, const Tensor& dentropy,
                         const Tensor& lse, const Tensor& entropy, const LogprobInputs& in) {
  LaunchProduct<Square, false, false>(
      ctx, LogitsOf(in.x, in.w),
      TakeGradients{dlogits.data<BFloat16>(), dlogp.data<float>(), dentropy.empty() ? nullptr : dentropy.data<float>(),
                    lse.data<float>(), entropy.data<float>(), in.targets.data<std::int32_t>()});
}

}  // namespace swarr
