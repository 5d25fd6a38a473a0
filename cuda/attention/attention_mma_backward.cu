// SPDX-License-Identifier: Apache-2.0
// Attention's backward for bf16 on tensor cores, in two kernels that share one step: 16 rows of a warp against a tile
// of 32 other rows. For dq the rows are queries and the tiles keys. For dk and dv the rows are keys, the tiles queries,
// and p and ds stand transposed. Either way p and ds pass from sums to operands within registers, and no sum leaves its
// warp. Launch: one block of 4 warps for 64 consecutive queries of one head, or for 64 keys of one key head, which go
// through the queries of their heads one head after another, ascending. Left out: computing p and ds once for both
// kernels, which would need dq summed across blocks. It is the plain twin of attention_backward_wgmma.cu.
#include "cuda/attention/attention_products.h"

namespace swarr {
namespace {

constexpr int kBlockWarps = 4;
constexpr int kRows = kBlockWarps * 16;
constexpr int kStages = 3;

// Adds a warp's 16 rows of sums to a gradient.
template <int P>
__device__ void AddRows(const Gradient<BFloat16>& to, const RowSums<1, P>& sums, std::int64_t first, std::int64_t step,
                        int valid, int D) {
#pragma unroll
  for (int n = 0; n < P / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = i / 2 * 8 + Lane() / 4, column = 8 * n + 2 * (Lane() % 4) + i % 2;
      if (row < valid && column < D) to.Add((first + row * step) * D + column, sums[0][n][i]);
    }
  }
}

template <int P>
constexpr std::size_t kQuerySharedBytes = sizeof(BFloat16) * (2 * kRows * kPitch<P> + kStages * 2 * kTileSize<P>);

template <int P>
__global__ __launch_bounds__(kBlockWarps* kWarp,
                             3) void QueryGradientKernel(DocumentQueries<BFloat16> source, Gradient<BFloat16> dq,
                                                         const BFloat16* dout, const float* lse, const float* delta,
                                                         const BFloat16* q, const std::int32_t* q_pos,
                                                         const std::int32_t* prompts, AttentionSpec of_model,
                                                         ScoreGradient gradient) {
  extern __shared__ uint4 shared[];
  BFloat16 *queries = reinterpret_cast<BFloat16*>(shared), *grads = queries + kRows * kPitch<P>,
           *stages = grads + kRows * kPitch<P>;
  const int D = static_cast<int>(source.D), first = static_cast<int>(threadIdx.x) / kWarp * 16;
  const QueryBlock<BFloat16> b = source.Block(gridDim.x - 1 - blockIdx.x, kRows, q_pos);
  if (b.count <= 0) return;

  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first / source.H);
  const TileList tiles = BoundsOf(b, 0, b.count, q_pos, source.H).Tiles(spec);
  const auto copy_tile = [&](int i) {
    if (i < tiles.count()) CopyKeysAndValues<P>(stages + i % kStages * 2 * kTileSize<P>, b.keys, tiles[i], D);
    CommitCopies();
  };
  CopyRows<P>(queries, kRows, q + b.first * D, b.step * D, b.count, D);
  CopyRows<P>(grads, kRows, dout + b.first * D, b.step * D, b.count, D);
  CommitCopies();
  for (int i = 0; i < kStages - 1; ++i) copy_tile(i);

  const PositionBounds bounds = BoundsOf(b, first, first + 16, q_pos, source.H);
  const TileList seen = bounds.Tiles(spec);
  int positions[2];
  float lse2[2], deltas[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = first + 8 * i + Lane() / 4;
    const std::int64_t row = b.first + (r < b.count ? r : 0) * b.step;
    positions[i] = r < b.count ? q_pos[row / source.H] : -1;
    lse2[i] = lse[row] * kInverseLn2;
    deltas[i] = delta[row] * gradient.scale;
  }
  WaitCopies<kStages - 1>();
  __syncthreads();
  RowsAsA<P, P <= 64> a[1], grad[1];
  a[0].Load(queries + first * kPitch<P>);
  grad[0].Load(grads + first * kPitch<P>);

  RowSums<1, P> sums = {};
  for (int i = 0; i < tiles.count(); ++i) {
    WaitCopies<kStages - 2>();
    __syncthreads();  // tile i is there, and all are done with tile i - 1, whose buffer is filled next
    copy_tile(i + kStages - 1);
    const int first_key = tiles[i] * kKeyTile;
    if (!seen.Holds(tiles[i])) continue;
    const BFloat16* keys = stages + i % kStages * 2 * kTileSize<P>;
    Scores<1> p, ds;
    WeightsAsA<1> weights;
    MultiplyByRows(p, a, keys);
    MultiplyByRows(ds, grad, keys + kTileSize<P>);
    const bool all = bounds.SeeAll(first_key, first_key + kKeyTile, spec);
#pragma unroll
    for (int j = 0; j < kTileRows / 8; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int key = first_key + 8 * j + 2 * (Lane() % 4) + c % 2;
        ds[0][j][c] = gradient.OfScore(gradient.Weight(p[0][j][c], lse2[c / 2]), ds[0][j][c], deltas[c / 2]);
        if (!all && !Visible(positions[c / 2], key, spec)) ds[0][j][c] = 0;
      }
    }
    RoundToA(weights[0], ds[0]);
    AddProducts<P, 1>(sums, weights, keys);
  }
  AddRows<P>(dq, sums, b.first + first * b.step, b.step, b.count - first, D);
}

// What goes with a tile of queries, beside its rows.
struct QueryNumbers {
  float lse[kTileRows], delta[kTileRows];
  int position[kTileRows];
};

template <int P>
constexpr std::size_t kKeySharedBytes = sizeof(BFloat16) * (2 * kRows * kPitch<P> + kStages * 2 * kTileSize<P>)+kStages
                                        * sizeof(QueryNumbers);

template <int P>
__global__ __launch_bounds__(kBlockWarps* kWarp, P <= 64 ? 3 : 2) void KeyGradientKernel(
    DocumentQueries<BFloat16> source, Gradient<BFloat16> dk, Gradient<BFloat16> dv, const BFloat16* dout,
    const float* lse, QueryScratch<float> scratch, const BFloat16* q, const std::int32_t* q_pos,
    const std::int32_t* prompts, AttentionSpec of_model, ScoreGradient gradient) {
  extern __shared__ uint4 shared[];
  BFloat16 *keys = reinterpret_cast<BFloat16*>(shared), *values = keys + kRows * kPitch<P>,
           *stages = values + kRows * kPitch<P>;
  QueryNumbers* numbers = reinterpret_cast<QueryNumbers*>(stages + kStages * 2 * kTileSize<P>);
  const int D = static_cast<int>(source.D), first = static_cast<int>(threadIdx.x) / kWarp * 16;
  const std::int64_t H = source.H, G = source.G, group = H / G, g = blockIdx.x % G;
  const DocumentBlock b = DocumentBlockOf(source.first_row, source.documents, kRows, blockIdx.x / G);
  if (b.begin >= b.end) return;

  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first_row);
  const KeyRange range = QueryTilesOf(b.begin, b.end, b.length, scratch.irregular[b.document] == 0, spec);
  const int tiles = range.size(), count = tiles * static_cast<int>(group);
  const auto tile_of = [&](int i) { return range.begin + i % tiles; };
  const auto copy_tile = [&](int i) {
    if (i < count) {
      BFloat16* to = stages + i % kStages * 2 * kTileSize<P>;
      const int row = tile_of(i) * kTileRows, valid = min(kTileRows, b.length - row);
      const std::int64_t n = b.first_row + row, h = g * group + i / tiles;
      CopyRows<P>(to, kTileRows, q + (n * H + h) * D, H * D, valid, D);
      CopyRows<P>(to + kTileSize<P>, kTileRows, dout + (n * H + h) * D, H * D, valid, D);
      const int j = static_cast<int>(threadIdx.x);
      if (j < kTileRows) {
        QueryNumbers& x = numbers[i % kStages];
        const std::int64_t query = j < valid ? n + j : n;
        CopyAsync4(&x.lse[j], lse + query * H + h, j < valid ? 4 : 0);
        CopyAsync4(&x.delta[j], scratch.delta + query * H + h, j < valid ? 4 : 0);
        CopyAsync4(&x.position[j], q_pos + query, j < valid ? 4 : 0);
      }
    }
    CommitCopies();
  };
  const std::int64_t first_head = (b.first_row + b.begin) * G + g;  // of the block's keys, as a row of [N, G]
  CopyRows<P>(keys, kRows, source.k + first_head * D, G * D, b.end - b.begin, D);
  CopyRows<P>(values, kRows, source.v + first_head * D, G * D, b.end - b.begin, D);
  CommitCopies();
  for (int i = 0; i < kStages - 1; ++i) copy_tile(i);
  WaitCopies<kStages - 1>();
  __syncthreads();
  RowsAsA<P, P <= 64> a[1], value[1];
  a[0].Load(keys + first * kPitch<P>);
  value[0].Load(values + first * kPitch<P>);

  const int first_key = b.begin + first;
  RowSums<1, P> dk_sums = {}, dv_sums = {};
  for (int i = 0; i < count; ++i) {
    WaitCopies<kStages - 2>();
    __syncthreads();  // tile i is there, and all are done with tile i - 1, whose buffer is filled next
    copy_tile(i + kStages - 1);
    const QueryNumbers& x = numbers[i % kStages];
    const int valid = b.length - tile_of(i) * kTileRows;
    const int position = Lane() < valid ? x.position[Lane()] : -1;
    const PositionBounds bounds =
        WarpBounds(position < 0 ? std::numeric_limits<int>::max() : position, position, position < 0);
    if (!bounds.Tiles(spec).Holds(first_key / kKeyTile)) continue;
    const bool all = bounds.SeeAll(first_key, first_key + 16, spec);
    const BFloat16 *queries = stages + i % kStages * 2 * kTileSize<P>, *grads = queries + kTileSize<P>;
    Scores<1> p, ds;
    WeightsAsA<1> weights;
    MultiplyByRows(p, a, queries);
    MultiplyByRows(ds, value, grads);
#pragma unroll
    for (int j = 0; j < kTileRows / 8; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int query = 8 * j + 2 * (Lane() % 4) + c % 2, key = first_key + c / 2 * 8 + Lane() / 4;
        p[0][j][c] = gradient.Weight(p[0][j][c], x.lse[query] * kInverseLn2);
        ds[0][j][c] = gradient.OfScore(p[0][j][c], ds[0][j][c], x.delta[query] * gradient.scale);
        if (!all && (query >= valid || !Visible(x.position[query], key, spec))) p[0][j][c] = ds[0][j][c] = 0;
      }
    }
    RoundToA(weights[0], p[0]);
    AddProducts<P, 1>(dv_sums, weights, grads);
    RoundToA(weights[0], ds[0]);
    AddProducts<P, 1>(dk_sums, weights, queries);
  }
  AddRows<P>(dk, dk_sums, first_head + first * G, G, b.end - first_key, D);
  AddRows<P>(dv, dv_sums, first_head + first * G, G, b.end - first_key, D);
}

}  // namespace

void MmaBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& lse,
                 const AttentionInputs& in, const QueryScratch<float>& scratch) {
  using T = BFloat16;
  const DocumentQueries<T> source = QueriesOfDocuments<T>(in);
  const std::int64_t N = in.q.dim(0), D = in.q.dim(2);
  const Tensor &dq = gradients.dq, &dk = gradients.dk, &dv = gradients.dv;
  const ScoreGradient gradient = ScoreGradientOf(D);
  DispatchWidth(D, [&]<int P>() {
    if (!dq.empty()) {
      const LaunchShape shape{source.Blocks(N, kRows), kBlockWarps * kWarp, kQuerySharedBytes<P>};
      Launch(ctx, shape, QueryGradientKernel<P>, source, Gradient<T>(dq), dout, lse, scratch.delta, in.q, in.q_pos,
             in.prompts, in.spec, gradient);
    }
    if (dk.empty() && dv.empty()) return;
    const LaunchShape shape{DocumentBlocks(N, source.documents, kRows) * source.G, kBlockWarps * kWarp,
                            kKeySharedBytes<P>};
    Launch(ctx, shape, KeyGradientKernel<P>, source, Gradient<T>(dk), Gradient<T>(dv), dout, lse, scratch, in.q,
           in.q_pos, in.prompts, in.spec, gradient);
  });
}

}  // namespace swarr
