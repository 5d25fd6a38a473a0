// SPDX-License-Identifier: Apache-2.0
// Attention's forward for bf16 on tensor cores, over whole documents; over a cache: decode/cached_attention.cu. A warp
// takes 16 M queries. For one tile of the softmax after another (attention_softmax.h) it computes scores, a step of the
// softmax and weighted values, all in registers. Keys and values come in turns through kStages buffers of shared
// memory; they are copied while earlier ones are worked on. A warp skips tiles that none of its queries sees, of 64
// keys and of 32. Launch: one block of 4 warps for 64 M consecutive queries of one head; later ones come first, because
// they see more keys.
//
// Head dims 64 and 128 are left to warpgroups where there are any (attention_wgmma.cu); bits are the same.
#include "cuda/attention/attention_softmax.h"

namespace swarr {
namespace {

static_assert(kTileRows == kKeyTile);

constexpr int kBlockWarps = 4;
constexpr int kStages = 3;
constexpr int kPages = kSoftmaxTile / kKeyTile;  // of a stage: tiles of keys, or of values
template <int P>
constexpr int kStageSize = kPages* kTileSize<P>;

template <int P, int M>
constexpr std::size_t kSharedBytes = sizeof(BFloat16) * (kBlockWarps * M * 16 * kPitch<P> + kStages * kStageSize<P>);

// Row r of a block as a row of [N, H]; -1 behind the last.
__device__ inline std::int64_t RowOf(const QueryBlock<BFloat16>& b, int r) {
  return r < b.count ? b.first + r * b.step : -1;
}

template <int P, int M>
__global__ __launch_bounds__(kBlockWarps* kWarp) void ForwardKernel(DocumentQueries<BFloat16> source, BFloat16* out,
                                                                    float* lse, const BFloat16* q,
                                                                    const std::int32_t* q_pos,
                                                                    const std::int32_t* prompts, const BFloat16* sinks,
                                                                    AttentionSpec of_model, float scale2) {
  extern __shared__ uint4 shared[];
  constexpr int kRows = kBlockWarps * M * 16;
  BFloat16 *queries = reinterpret_cast<BFloat16*>(shared), *stages = queries + kRows * kPitch<P>;
  const int D = static_cast<int>(source.D), first = static_cast<int>(threadIdx.x) / kWarp * M * 16;
  const QueryBlock<BFloat16> b = source.Block(gridDim.x - 1 - blockIdx.x, kRows, q_pos);
  if (b.count <= 0) return;

  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first / source.H);
  const TileList pages = BoundsOf(b, 0, b.count, q_pos, source.H).Tiles(spec), tiles = SoftmaxTilesOf(pages);
  // Stage 2 i has the keys of tile i, stage 2 i + 1 its values.
  const auto copy_stage = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kPages; ++i) {
      const int page = tiles[stage / 2] * kPages + i;
      if (stage >= 2 * tiles.count() || !pages.Holds(page)) continue;
      CopyRows<P, kBlockWarps * kWarp>(stages + stage % kStages * kStageSize<P> + i * kTileSize<P>, kTileRows,
                                       stage % 2 == 0 ? b.keys.K(page) : b.keys.V(page), b.keys.row, b.keys.Valid(page),
                                       D);
    }
    CommitCopies();
  };
  CopyRows<P, kBlockWarps * kWarp>(queries, kRows, q + b.first * D, b.step * D, b.count, D);
  CommitCopies();
  for (int i = 0; i < kStages - 1; ++i) copy_stage(i);

  const PositionBounds bounds = BoundsOf(b, first, first + M * 16, q_pos, source.H);
  const TileList seen = bounds.Tiles(spec);
  int positions[M][2];
  RowSoftmax softmax[M];
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t row = RowOf(b, first + 16 * m + 8 * i + Lane() / 4);
      positions[m][i] = row < 0 ? -1 : q_pos[row / source.H];
      if (sinks && row >= 0) softmax[m].BeginWith(i, float(sinks[row % source.H]));
    }
  }
  WaitCopies<kStages - 1>();
  __syncthreads();
  RowsAsA<P, true> a[M];
#pragma unroll
  for (int m = 0; m < M; ++m) a[m].Load(queries + (first + 16 * m) * kPitch<P>);

  const auto next_stage = [&](int stage) {
    WaitCopies<kStages - 2>();
    __syncthreads();  // the stage is there, and all are done with the one before, whose buffer is filled next
    copy_stage(stage + kStages - 1);
    return stages + stage % kStages * kStageSize<P>;
  };
  RowSums<M, P> o = {};
  for (int i = 0; i < tiles.count(); ++i) {
    const int first_page = tiles[i] * kPages, first_key = tiles[i] * kSoftmaxTile;
    WeightsAsA<M> weights[kPages];
    const BFloat16* keys = next_stage(2 * i);
    if (SoftmaxTilesOf(seen).Holds(tiles[i])) {
      Scores<M> scores[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (seen.Holds(first_page + page)) MultiplyByRows(scores[page], a, keys + page * kTileSize<P>);
      }
      const bool all = bounds.SeeAll(first_key, first_key + kSoftmaxTile, spec);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const auto scores_at = [&](int block) { return scores[block / (kTileRows / 8)][m][block % (kTileRows / 8)]; };
        if (!all) MaskScores(scores_at, positions[m], first_key, spec);
        float rescale[2];
        softmax[m].Weigh(scores_at, scale2, rescale);
        RescaleSums<P / 8>([&](int block) { return o[m][block]; }, rescale);
#pragma unroll
        for (int page = 0; page < kPages; ++page) RoundToA(weights[page][m], scores[page][m]);
      }
    }
    const BFloat16* values = next_stage(2 * i + 1);
#pragma unroll
    for (int page = 0; page < kPages; ++page) {
      if (seen.Holds(first_page + page)) AddProducts<P, M>(o, weights[page], values + page * kTileSize<P>);
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::int64_t row = RowOf(b, first + 16 * m + 8 * i + Lane() / 4);
      const float sink = sinks && row >= 0 ? float(sinks[row % source.H]) : kNothing;
      StoreRow<P / 8>(out, lse, row, D, i, softmax[m], sink, [&](int block) { return o[m][block]; });
    }
  }
}

}  // namespace

void MmaForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  DispatchWidth(in.q.dim(2), [&]<int P>() {
    constexpr int kM = P <= 64 ? 2 : 1;  // as many rows as registers hold: they share what is read of a tile
    const DocumentQueries<BFloat16> source = QueriesOfDocuments<BFloat16>(in);
    const LaunchShape shape{source.Blocks(in.q.dim(0), kBlockWarps * kM * 16), kBlockWarps * kWarp,
                            kSharedBytes<P, kM>};
    Launch(ctx, shape, ForwardKernel<P, kM>, source, out, lse, in.q, in.q_pos, in.prompts, in.sink_logits, in.spec,
           ScoreScale2(source.D));
  });
}

}  // namespace swarr
