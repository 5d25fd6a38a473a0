// SPDX-License-Identifier: Apache-2.0
// Attention's forward over a cache, for bf16 on tensor cores: a block takes the query heads of one row that share a key
// head, 16 at most. The softmax goes through tiles of keys one after another (attention_softmax.h), and with one row
// that chain is all there is to wait for. So the block's warps share what does not depend on earlier tiles:
//
//   1. Each warp takes a tile of its own, kTeam tiles at a time: scores, and their largest.
//   2. Each warp goes through the largest scores of all of these tiles, in order, and then makes its tile's weights.
//   3. Each warp has some columns of the output, and goes through the weights and values of all tiles, in order.
//
// Every number comes from the instructions of attention_mma.cu in their order, so it has the same bits, whatever kTeam
// is.
#include "cuda/attention/attention_softmax.h"

namespace swarr {
namespace {

static_assert(kTileRows == kKeyTile);

constexpr int kPages = kSoftmaxTile / kKeyTile;  // of a tile of the softmax: tiles of the cache
constexpr int kWeightSteps = kSoftmaxTile / 16;  // of a product with a tile's values
template <int P>
constexpr int kTilePart = kPages* kTileSize<P>;  // keys, or values, of a tile of the softmax

// What the warps tell one another of their tiles.
template <int kTeam>
struct Notes {
  float largest[kTeam][2][kWarp];  // score of a lane's two rows
  float rescale[kTeam][2][kWarp];  // by what earlier sums shrink
  float total[kTeam][2][kWarp];    // of a lane's own weights
};
template <int P, int kTeam>
constexpr std::size_t kSharedBytes = sizeof(BFloat16) * 2 * kTeam* kTilePart<P> + sizeof(Notes<kTeam>);

// Asks for keys and values that the block will see. What others have still to write may be among them: this reads
// nothing, it only brings lines nearer.
__device__ inline void FetchPages(const KeyTiles<BFloat16>& keys, const TileList& pages, int D) {
#if __CUDA_ARCH__ >= 900
  const auto fetch = [&](const BFloat16* from) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" : : "l"(from), "r"(kKeyTile * D * 2));
  };
  for (int i = static_cast<int>(threadIdx.x); i < pages.count(); i += static_cast<int>(blockDim.x)) {
    fetch(keys.K(pages[i]));
    fetch(keys.V(pages[i]));
  }
#endif
}

// Begins to copy a tile of the cache, by one warp; zeros stand for rows from `valid` on. Rows have D numbers. What runs
// once is kept short, here and below, since its instructions have to be fetched as well.
template <int P>
__device__ inline void CopyPage(BFloat16* to, const BFloat16* from, int valid, int D) {
  constexpr int kPieces = P / 8, kRows = kWarp / kPieces;
  const int first = Lane() / kPieces, column = Lane() % kPieces * 8, count = column < D ? valid : 0;
  const BFloat16* at = from + first * D + column;
  to += first * kPitch<P> + column;
#pragma unroll 2
  for (int row = first; row < kTileRows; row += kRows, at += kRows * D, to += kRows * kPitch<P>) {
    CopyAsync16(to, row < count ? at : from, row < count ? 16 : 0);
  }
}

// Some blocks of 16 columns of the output: of warp w the blocks w, w + kTeam, ...
template <int P, int kTeam>
struct Columns {
  static constexpr int kBlocks = P / 16, kOwn = (kBlocks + kTeam - 1) / kTeam;
  float at[kOwn][2][4];

  __device__ static int Block(int own) { return static_cast<int>(threadIdx.x) / kWarp + own * kTeam; }
  __device__ void Rescale(const float (&rescale)[2]) {
    RescaleSums<kOwn * 2>([&](int block) { return at[block / 2][block % 2]; }, rescale);
  }
  // Adds 16 weights of each row, times as many rows of values.
  __device__ void Add(const unsigned (&weights)[4], const BFloat16* values) {
    const BFloat16* from = values + (Lane() / 8 % 2 * 8 + Lane() % 8) * kPitch<P> + Lane() / 16 * 8;
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      if (Block(own) >= kBlocks) break;
      unsigned b[4];
      LoadMatrix4Transposed(b, from + Block(own) * 16);
      MultiplyAccumulate(at[own][0], weights, b[0], b[1]);
      MultiplyAccumulate(at[own][1], weights, b[2], b[3]);
    }
  }
  __device__ void Store(BFloat16* row, int D, int i, float inverse) const {
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      if (Block(own) >= kBlocks) break;
      StoreColumns<2>(row, Block(own) * 16, D, i, inverse, [&](int half) { return at[own][half]; });
    }
  }
};

template <int P, int kTeam>
__global__ __launch_bounds__(kTeam* kWarp) void CachedForwardKernel(SlotQueries<BFloat16> source, BFloat16* out,
                                                                    float* lse, const BFloat16* q,
                                                                    const std::int32_t* q_pos,
                                                                    const std::int32_t* prompts, const BFloat16* sinks,
                                                                    AttentionSpec of_model, float scale2) {
  extern __shared__ uint4 shared[];
  auto* keys = reinterpret_cast<BFloat16*>(shared);
  BFloat16* values = keys + kTeam * kTilePart<P>;
  auto& notes = *reinterpret_cast<Notes<kTeam>*>(values + kTeam * kTilePart<P>);
  LetNextBegin();
  const int D = static_cast<int>(source.D), warp = static_cast<int>(threadIdx.x) / kWarp;
  const QueryBlock<BFloat16> b = source.Block(blockIdx.x, 16, q_pos);
  const std::int64_t n = b.first / source.H;
  const AttentionSpec spec = SpecOfRow(of_model, prompts, n);
  const int position = q_pos[n];
  const PositionBounds bounds{position < 0 ? std::numeric_limits<int>::max() : position, max(position, -1),
                              position < 0};
  const TileList pages = bounds.Tiles(spec), tiles = SoftmaxTilesOf(pages);
  FetchPages(b.keys, pages, D);
  WaitForPrevious();

  // Of the rows of a lane, those that are there.
  const bool there[2] = {Lane() / 4 < b.count, Lane() / 4 + 8 < b.count};
  const int positions[2] = {there[0] ? position : -1, there[1] ? position : -1};
  RowSoftmax softmax;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (sinks && there[i]) softmax.BeginWith(i, float(sinks[(b.first + Lane() / 4 + 8 * i) % source.H]));
  }
  RowsAsA<P, true> queries[1];
  queries[0].LoadGlobal(q + b.first * D, b.count, D);
  Columns<P, kTeam> o = {};
  BFloat16 *own_keys = keys + warp * kTilePart<P>, *own_values = values + warp * kTilePart<P>;
  // A tile's weights take the place of its keys.
  const auto weights_of = [&](int member) { return reinterpret_cast<uint4*>(keys + member * kTilePart<P>) + Lane(); };
  for (int first = 0; first < tiles.count(); first += kTeam) {
    const int count = min(kTeam, tiles.count() - first),
              first_page = tiles[min(first + warp, tiles.count() - 1)] * kPages;
    const bool takes = warp < count;
    if (first > 0) __syncthreads();  // all are done with the tiles before
#pragma unroll 1
    for (int i = 0; i < 2 * kPages; ++i) {  // keys, then values
      const int page = first_page + i % kPages;
      if (takes && pages.Holds(page)) {
        BFloat16* to = (i < kPages ? own_keys : own_values) + i % kPages * kTileSize<P>;
        CopyPage<P>(to, i < kPages ? b.keys.K(page) : b.keys.V(page), b.keys.Valid(page), D);
      }
      if (i == kPages - 1) CommitCopies();
    }
    CommitCopies();
    WaitCopies<1>();
    __syncwarp();
    Scores<1> scores[kPages];
    const auto scores_at = [&](int block) { return scores[block / (kTileRows / 8)][0][block % (kTileRows / 8)]; };
    if (takes) {
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (!pages.Holds(first_page + page)) continue;
        MultiplyByRows(scores[page], queries, own_keys + page * kTileSize<P>);
      }
      const int first_key = first_page * kKeyTile;
      if (!bounds.SeeAll(first_key, first_key + kSoftmaxTile, spec)) MaskScores(scores_at, positions, first_key, spec);
#pragma unroll
      for (int i = 0; i < 2; ++i) notes.largest[warp][i][Lane()] = RowSoftmax::LargestOf(scores_at, i);
    }
    __syncthreads();

    float base[2];
#pragma unroll 1
    for (int member = 0; member < count; ++member) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float rescale;
        const float of_tile = softmax.Raise(i, notes.largest[member][i][Lane()], scale2, rescale);
        if (member != warp) continue;
        base[i] = of_tile;
        notes.rescale[warp][i][Lane()] = rescale;
      }
    }
    if (takes) {
#pragma unroll
      for (int i = 0; i < 2; ++i) notes.total[warp][i][Lane()] = RowSoftmax::WeighRow(scores_at, i, scale2, base[i]);
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        unsigned weights[kTileRows / 16][4];
        RoundToA(weights, scores[page][0]);
#pragma unroll
        for (int k = 0; k < kTileRows / 16; ++k) {
          weights_of(warp)[(page * (kTileRows / 16) + k) * kWarp] =
              make_uint4(weights[k][0], weights[k][1], weights[k][2], weights[k][3]);
        }
      }
    }
    WaitCopies<0>();
    __syncthreads();

#pragma unroll 1
    for (int member = 0; member < count; ++member) {
      const float rescale[2] = {notes.rescale[member][0][Lane()], notes.rescale[member][1][Lane()]};
#pragma unroll
      for (int i = 0; i < 2; ++i) softmax.Add(i, rescale[i], notes.total[member][i][Lane()]);
      o.Rescale(rescale);
      const int member_page = tiles[first + member] * kPages;
#pragma unroll
      for (int step = 0; step < kWeightSteps; ++step) {
        if (!pages.Holds(member_page + step * 16 / kTileRows)) continue;
        const uint4 w = weights_of(member)[step * kWarp];
        const unsigned weights[4] = {w.x, w.y, w.z, w.w};
        o.Add(weights, values + member * kTilePart<P> + step * 16 * kPitch<P>);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = softmax.Sum(i);
    if (!there[i]) continue;
    const std::int64_t row = b.first + Lane() / 4 + 8 * i;
    o.Store(out + row * D, D, i, RowSoftmax::Inverse(sum));
    if (warp > 0 || Lane() % 4 != 0) continue;
    lse[row] = softmax.LogSum(i, sum, sinks ? float(sinks[row % source.H]) : kNothing);
  }
}

template <int P, int kTeam>
void LaunchCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  const auto source = QueriesOfSlots<BFloat16>(in.q, in.cache, in.slots);
  const LaunchShape shape{source.Blocks(in.q.dim(0), 16), kTeam * kWarp, kSharedBytes<P, kTeam>, /*early=*/true};
  Launch(ctx, shape, CachedForwardKernel<P, kTeam>, source, out, lse, in.q, in.q_pos, in.prompts, in.sink_logits,
         in.spec, ScoreScale2(source.D));
}

}  // namespace

// A large team goes through the keys of a row soonest, but its blocks fill a multiprocessor.
void MmaCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  DispatchWidth(in.q.dim(2), [&]<int P>() {
    constexpr int kTeam = 4, kLargeTeam = P <= 64 ? 8 : kTeam;  // as shared memory holds them
    const std::int64_t blocks = QueriesOfSlots<BFloat16>(in.q, in.cache, in.slots).Blocks(in.q.dim(0), 16);
    (blocks <= ctx.stream->multiprocessors ? LaunchCachedForward<P, kLargeTeam>
                                           : LaunchCachedForward<P, kTeam>)(ctx, out, lse, in);
  });
}

}  // namespace swarr
