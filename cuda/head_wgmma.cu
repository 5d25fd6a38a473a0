// SPDX-License-Identifier: Apache-2.0
// The LM head with log-softmax, fused (tensor/fused/head.h). The group that has multiplied a tile of logits takes its
// softmax while the other multiplies: a lane of a product's sums has the entries of a row's slices that
// cuda/softmax_row.h deals out. Forward: the largest logit and the two sums of each slice go to memory, 3 numbers for
// 64 logits, and a second kernel merges them. Backward: the logits are multiplied again, and the gradient is written in
// bf16. The plain twins are the products of gemm_mma.cu and the kernels of log_softmax.cu: the same bits
// (cuda_gemm_test.cc).
#include "cuda/product_wgmma.h"
#include "cuda/softmax_row.h"
#include "tensor/fused/head.h"
#include "tensor/kernels/formulas.h"

namespace swarr {
namespace {

using Part = SoftmaxPart<float>;
using Logits = Product<BFloat16, float>;  // c is null

constexpr std::int64_t kRowsAtOnce = 16384;  // whose parts are held

// The 4 x 4 words that four neighbouring lanes hold, four each, transposed.
__device__ inline void TransposeWords(std::uint32_t (&words)[4]) {
#pragma unroll
  for (unsigned distance = 1; distance <= 2; distance *= 2) {
    const bool second = (threadIdx.x & distance) != 0;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      if (i & distance) continue;
      const std::uint32_t sent = second ? words[i] : words[i + distance],
                          received = __shfl_xor_sync(0xffffffffu, sent, distance);
      (second ? words[i] : words[i + distance]) = received;
    }
  }
}

// A lane's sums in 4 blocks of 8 columns, a pair in each, of one row. All lanes call; rows and columns may lie beyond
// c.
struct Quad {
  float at[8];

  // bf16 is written in runs of 8: lane l of four has block l of the quad there.
  __device__ void Store(BFloat16* run, bool inside) const {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = RoundPair(at[2 * i], at[2 * i + 1]);
    TransposeWords(words);
    if (inside) *reinterpret_cast<uint4*>(run) = make_uint4(words[0], words[1], words[2], words[3]);
  }
};

// A lane has entries of two of a tile's 64 rows, 8 apart. What it reads of them is read before anything is written, and
// rare cases have code of their own: so nothing keeps the compiler from working on several slices at once, and a warp
// has few others beside it that could fill its waits.
constexpr int kLaneRows = 2;

__device__ std::int64_t RowOfLane(TileOrigin origin, int which) {
  return origin.row + threadIdx.x % kGroup / kWarp * 16 + which * 8 + threadIdx.x % kWarp / 4;
}
// Where entry i of a lane stands in a tile of logits.
__device__ int ColumnInTile(int slice, int i) { return slice * kSlice + PairInSlice(i / 2) + i % 2; }
__device__ constexpr int SumOf(int slice, int which, int i) { return (slice * 8 + i / 2) * 4 + which * 2 + i % 2; }

// Keeps of each slice its part, and each row's logit of its target.
struct TakeParts {
  Part* parts;  // [rows, slices]
  float* chosen;
  const std::int32_t* targets;

  template <int kColumns>
  __device__ void Take(const Logits& p, TileOrigin origin, const float (&sums)[kColumns / 2]) const {
    constexpr int kSlices = kColumns / kSlice;
    const std::int64_t slices = Blocks(p.columns, kSlice), columns = p.columns - origin.column;
    int target[kLaneRows];
#pragma unroll
    for (int which = 0; which < kLaneRows; ++which) {
      const std::int64_t row = RowOfLane(origin, which);
      target[which] = row < p.rows ? static_cast<int>(targets[row] - origin.column) : -1;
    }
    Part part[kSlices][kLaneRows];
    const auto take = [&]<bool whole>() {
#pragma unroll
      for (int at = 0; at < kSlices * kLaneRows; ++at) {
        const int slice = at / kLaneRows, which = at % kLaneRows;
        float z[kLaneEntries];
#pragma unroll
        for (int i = 0; i < kLaneEntries; ++i) {
          const float logit = sums[SumOf(slice, which, i)];
          z[i] = whole || ColumnInTile(slice, i) < columns ? logit : kLowest<float>;
        }
        part[slice][which] = PartOfSlice(z);
      }
    };
    columns >= kColumns ? take.template operator()<true>() : take.template operator()<false>();
#pragma unroll
    for (int at = 0; at < kSlices * kLaneRows; ++at) {
      const int slice = at / kLaneRows, which = at % kLaneRows;
      const std::int64_t row = RowOfLane(origin, which);
      if (threadIdx.x % kSliceLanes == 0 && row < p.rows && slice * kSlice < columns) {
        parts[row * slices + origin.column / kSlice + slice] = part[slice][which];
      }
      if (target[which] < slice * kSlice || target[which] >= (slice + 1) * kSlice) continue;
#pragma unroll
      for (int i = 0; i < kLaneEntries; ++i) {
        if (ColumnInTile(slice, i) == target[which]) chosen[row] = sums[SumOf(slice, which, i)];
      }
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

  struct Row {
    float dlogp, lse, dentropy, entropy;
    int target;
  };

  template <int kColumns>
  __device__ void Take(const Logits& p, TileOrigin origin, const float (&sums)[kColumns / 2]) const {
    Row rows[kLaneRows];
    bool chosen = false;  // whether a row's target is in this tile
#pragma unroll
    for (int which = 0; which < kLaneRows; ++which) {
      const std::int64_t n = min(RowOfLane(origin, which), p.rows - 1);
      rows[which] = {dlogp[n], lse[n], dentropy ? dentropy[n] : 0, dentropy ? entropy[n] : 0,
                     static_cast<int>(targets[n] - origin.column)};
      chosen |= rows[which].target >= 0 && rows[which].target < kColumns;
    }
    if (__any_sync(0xffffffffu, chosen)) {
      dentropy ? Write<kColumns, true, true>(p, origin, sums, rows)
               : Write<kColumns, true, false>(p, origin, sums, rows);
    } else {
      dentropy ? Write<kColumns, false, true>(p, origin, sums, rows)
               : Write<kColumns, false, false>(p, origin, sums, rows);
    }
  }

  template <int kColumns, bool chosen, bool with_entropy>
  __device__ void Write(const Logits& p, TileOrigin origin, const float (&sums)[kColumns / 2],
                        const Row (&rows)[kLaneRows]) const {
#pragma unroll
    for (int at = 0; at < kColumns / kSlice * kLaneRows; ++at) {
      const int slice = at / kLaneRows, which = at % kLaneRows;
      const Row& r = rows[which];
      const std::int64_t row = RowOfLane(origin, which), column = origin.column + slice * kSlice + threadIdx.x % 4 * 8,
                         columns = row < p.rows ? p.columns - column : 0;
#pragma unroll
      for (int quads = 0; quads < 2; ++quads) {
        Quad quad;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const int i = quads * 8 + j;
          const float log_p = sums[SumOf(slice, which, i)] - r.lse, prob = Exp(log_p);
          const float others =
              with_entropy ? LogitGradient(prob, log_p, r.dlogp, r.dentropy, r.entropy) : LogitGradient(prob, r.dlogp);
          quad.at[j] = chosen && ColumnInTile(slice, i) == r.target ? r.dlogp + others : others;
        }
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
