// SPDX-License-Identifier: Apache-2.0
// Attention's forward for bf16 on tensor cores: one kernel for whole documents and for a cache. A warp takes 16 M
// queries. For one tile of 32 keys after another it computes scores, a step of the softmax and weighted values, all in
// registers. Tiles come through kStages buffers of shared memory; they are copied while earlier ones are worked on. A
// warp skips tiles that none of its queries sees. Launch over documents: one block of 4 warps for 64 M
// consecutive queries of one head; later ones come first, because they see more keys. Launch over a cache: one warp for
// the heads of one row that share a key head.
//
// The softmax is in powers of 2, relative to the largest score so far. It is the same function of a query and its own
// keys wherever it runs: a tile that the query doesn't see leaves its maximum, sum and output as they are (Exp2(0) is
// 1, a weight of 0 adds 0), and rows of a product do not mix. Left out: wgmma and TMA; splitting a long context over
// several blocks when few rows decode.
#include <cmath>

#include "cuda/attention_products.h"

namespace swarr {
namespace {

static_assert(kTileRows == kKeyTile);

constexpr int kStages = 3;
constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr float kInverseLn2 = 1.4426950408889634074f;

// The softmax of a thread's rows so far. Row [m][i] is row 16 m + 8 i + lane / 4 of the warp; four lanes share it and
// hold eight columns of every tile each.
template <int P, int M>
struct Softmax {
  RowSums<M, P> o = {};
  float largest[M][2];  // times scale / ln 2
  float sum[M][2];      // of this thread's columns

  __device__ Softmax() {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i) largest[m][i] = kNothing, sum[m][i] = 0;
    }
  }

  // Begins a row with its learned sink. The first of the four lanes that share the row has it in its sum.
  __device__ void BeginWith(int m, int i, float sink) {
    largest[m][i] = sink * kInverseLn2;
    sum[m][i] = Lane() % 4 == 0 ? 1.0f : 0.0f;
  }

  // Turns scores of rows 16 m .. into weights. scale2 = scale / ln 2, so that exp(scale x) = 2^(scale2 x).
  __device__ void Weigh(int m, float (&scores)[kTileRows / 8][4], float scale2) {
    float rescale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float most = kNothing;
#pragma unroll
      for (auto& c : scores) most = fmaxf(most, fmaxf(c[2 * i], c[2 * i + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float new_largest = fmaxf(largest[m][i], most * scale2);
      const float base = new_largest == kNothing ? 0.0f : new_largest;
      rescale[i] = Exp2(largest[m][i] - base);
      largest[m][i] = new_largest;
      float total = 0;
#pragma unroll
      for (auto& c : scores) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          c[2 * i + j] = Exp2(__fmaf_rn(c[2 * i + j], scale2, -base));
          total += c[2 * i + j];
        }
      }
      sum[m][i] = sum[m][i] * rescale[i] + total;
    }
    // Multiplying by 1 changes nothing and is mostly left out: maxima soon stop growing.
    if (!__any_sync(0xffffffffu, rescale[0] != 1 || rescale[1] != 1)) return;
#pragma unroll
    for (auto& c : o[m]) {
#pragma unroll
      for (int j = 0; j < 4; ++j) c[j] *= rescale[j / 2];
    }
  }

  __device__ float RowSum(int m, int i) const {
    const float pair = sum[m][i] + __shfl_xor_sync(0xffffffffu, sum[m][i], 1);
    return pair + __shfl_xor_sync(0xffffffffu, pair, 2);
  }
};

// Scores of keys that a query doesn't see become -infinity. positions: of rows lane / 4 and lane / 4 + 8.
__device__ inline void Mask(float (&scores)[kTileRows / 8][4], const int (&positions)[2], int first_key,
                            AttentionSpec spec) {
#pragma unroll
  for (int j = 0; j < kTileRows / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + 8 * j + 2 * (Lane() % 4) + i % 2;
      if (!Visible(positions[i / 2], key, spec)) scores[j][i] = kNothing;
    }
  }
}

template <int P, int M>
constexpr std::size_t kSharedBytes(int warps) {
  return sizeof(BFloat16) * (static_cast<std::size_t>(warps) * M * 16 * kPitch<P> + kStages * 2 * kTileSize<P>);
}

// Row r of a block as a row of [N, H]; -1 behind the last.
__device__ inline std::int64_t RowOf(const QueryBlock<BFloat16>& b, int r) {
  return r < b.count ? b.first + r * b.step : -1;
}

// Writes this thread's part of one row: of each eight columns its two, which are o[n][first] and o[n][first + 1].
template <int P>
__device__ void StoreRow(BFloat16* out, int D, const float (&o)[P / 8][4], int first, float inverse) {
#pragma unroll
  for (int n = 0; n < P / 8; ++n) {
    const int column = 8 * n + 2 * (Lane() % 4);
    // + 0: as in Gradient::Add.
    const unsigned pair = RoundPair(o[n][first] * inverse + 0.0f, o[n][first + 1] * inverse + 0.0f);
    if (column < D) *reinterpret_cast<unsigned*>(out + column) = pair;
  }
}

template <int P, int M>
__device__ void Store(const QueryBlock<BFloat16>& b, int first, int D, const Softmax<P, M>& softmax,
                      const BFloat16* sinks, std::int64_t H, BFloat16* out, float* lse) {
  constexpr float kLn2 = 0.693147180559945309417f;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = softmax.RowSum(m, i);
      const bool blind = sum == 0;
      const std::int64_t row = RowOf(b, first + 16 * m + 8 * i + Lane() / 4);
      if (row >= 0) {
        StoreRow<P>(out + row * D, D, softmax.o[m], 2 * i, blind ? 0.0f : 1.0f / sum);
        const float sink = sinks ? float(sinks[row % H]) : kNothing, largest = softmax.largest[m][i];
        // Where the sink is the largest, it is taken as it is: the lse of a row that sees no key is the sink itself.
        const float base = largest == sink * kInverseLn2 ? sink : largest * kLn2;
        if (Lane() % 4 == 0) lse[row] = blind ? kNothing : base + logf(sum);
      }
    }
  }
}

template <int P, int M, int kBlockWarps, class Source>
__global__ __launch_bounds__(kBlockWarps* kWarp) void ForwardKernel(Source source, BFloat16* out, float* lse,
                                                                    const BFloat16* q, const std::int32_t* q_pos,
                                                                    const std::int32_t* prompts, const BFloat16* sinks,
                                                                    AttentionSpec of_model, float scale2) {
  extern __shared__ uint4 shared[];
  constexpr int kRows = kBlockWarps * M * 16;
  BFloat16 *queries = reinterpret_cast<BFloat16*>(shared), *stages = queries + kRows * kPitch<P>;
  LetNextBegin();
  WaitForPrevious();
  const int D = static_cast<int>(source.D), first = static_cast<int>(threadIdx.x) / kWarp * M * 16;
  const QueryBlock<BFloat16> b = source.Block(gridDim.x - 1 - blockIdx.x, kRows, q_pos);
  if (b.count <= 0) return;

  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first / source.H);
  const TileList tiles = BoundsOf(b, 0, b.count, q_pos, source.H).Tiles(spec);
  const auto copy_tile = [&](int i) {
    if (i < tiles.count()) CopyKeysAndValues<P>(stages + i % kStages * 2 * kTileSize<P>, b.keys, tiles[i], D);
    CommitCopies();
  };
  CopyRows<P>(queries, kRows, q + b.first * D, b.step * D, b.count, D);
  CommitCopies();
  for (int i = 0; i < kStages - 1; ++i) copy_tile(i);

  const PositionBounds bounds = BoundsOf(b, first, first + M * 16, q_pos, source.H);
  const TileList seen = bounds.Tiles(spec);
  int positions[M][2];
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t row = RowOf(b, first + 16 * m + 8 * i + Lane() / 4);
      positions[m][i] = row < 0 ? -1 : q_pos[row / source.H];
    }
  }
  WaitCopies<kStages - 1>();
  __syncthreads();
  RowsAsA<P, true> a[M];
#pragma unroll
  for (int m = 0; m < M; ++m) a[m].Load(queries + (first + 16 * m) * kPitch<P>);

  Softmax<P, M> softmax;
  if (sinks) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int64_t row = RowOf(b, first + 16 * m + 8 * i + Lane() / 4);
        if (row >= 0) softmax.BeginWith(m, i, float(sinks[row % source.H]));
      }
    }
  }
  for (int i = 0; i < tiles.count(); ++i) {
    WaitCopies<kStages - 2>();
    __syncthreads();  // tile i is there, and all are done with tile i - 1, whose buffer is filled next
    copy_tile(i + kStages - 1);
    const int first_key = tiles[i] * kKeyTile;
    if (!seen.Holds(tiles[i])) continue;
    const BFloat16* keys = stages + i % kStages * 2 * kTileSize<P>;
    Scores<M> scores;
    WeightsAsA<M> weights;
    MultiplyByRows(scores, a, keys);
    const bool all = bounds.SeeAll(first_key, first_key + kKeyTile, spec);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if (!all) Mask(scores[m], positions[m], first_key, spec);
      softmax.Weigh(m, scores[m], scale2);
      RoundToA(weights[m], scores[m]);
    }
    AddProducts<P, M>(softmax.o, weights, keys + kTileSize<P>);
  }
  Store(b, first, D, softmax, sinks, source.H, out, lse);
}

template <int P, int M, int kBlockWarps, class Source, class Inputs>
void LaunchForward(const Context& ctx, const Source& source, const Tensor& out, const Tensor& lse, const Inputs& in) {
  const LaunchShape shape{source.Blocks(in.q.dim(0), kBlockWarps * M * 16), kBlockWarps * kWarp,
                          kSharedBytes<P, M>(kBlockWarps), /*early=*/true};
  Launch(ctx, shape, ForwardKernel<P, M, kBlockWarps, Source>, source, out, lse, in.q, in.q_pos, in.prompts,
         in.sink_logits, in.spec, ScoreScale2(source.D));
}

}  // namespace

void MmaForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  DispatchWidth(in.q.dim(2), [&]<int P>() {
    constexpr int kM = P <= 64 ? 2 : 1;  // as many rows as registers hold: they share what is read of a tile
    LaunchForward<P, kM, 4>(ctx, QueriesOfDocuments<BFloat16>(in), out, lse, in);
  });
}

void MmaCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  DispatchWidth(in.q.dim(2), [&]<int P>() {
    LaunchForward<P, 1, 1>(ctx, QueriesOfSlots<BFloat16>(in.q, in.cache, in.slots), out, lse, in);
  });
}

}  // namespace swarr
