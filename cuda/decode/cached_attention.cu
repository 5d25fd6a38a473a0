// SPDX-License-Identifier: Apache-2.0
// Attention's forward over a cache, for bf16 on tensor cores: a block takes the query heads of one row that share a key
// head, 16 at most. The softmax goes through tiles of keys one after another (attention_softmax.h), and with one row
// that chain is all there is to wait for. So the block's warps share what does not depend on earlier tiles:
//
//   1. Each warp takes a tile of its own, as many at a time as shared memory holds: scores, and their largest.
//   2. Each warp goes through the largest scores of all of these tiles, in order, and then makes its tile's weights.
//   3. Each warp has some columns of the output, and goes through the weights and values of all tiles, in order.
//
// In a step of decoding the launch before writes the newest keys alone. So all others are copied before the block waits
// for that launch, and what is left after it is short.
//
// Every number comes from the instructions of attention_mma.cu in their order, so it has the same bits, however many
// tiles are taken at a time. Where rows are many, nobody waits for one of them: streamed_attention.cu.
#include <algorithm>

#include "cuda/decode/cached_keys.h"

namespace swarr {
namespace {

constexpr int kPageSteps = kKeyTile / 16;         // of a product with a page's values
constexpr int kFewestWarps = 4, kMostTiles = 12;  // of a block; tiles: at a time

// What the warps tell one another of a tile.
struct TileNotes {
  float largest[2][kWarp];  // score of a lane's two rows
  float rescale[2][kWarp];  // by what earlier sums shrink
  float total[2][kWarp];    // of a lane's own weights
};

// What a block holds of a tile.
template <int P>
struct HeldTile {
  BFloat16 keys[kTilePart<P>];  // then the weights, as uint4[kPages * kPageSteps][kWarp]
  BFloat16 values[kTilePart<P>];
  TileNotes notes;

  __device__ uint4& Weights(int step) { return reinterpret_cast<uint4*>(keys)[step * kWarp + Lane()]; }
};

// The keys and values that a block's queries see, and how its warps copy them.
struct CopiedKeys : SeenKeys {
  const BFloat16 *k, *v;
  int D, k_tile, v_tile, sink_tiles, ring;

  __device__ CopiedKeys(const CachedQueries& in, int n, int g)
      : SeenKeys(in, n, g),
        k(in.k + std::int64_t{first} * in.k_tile),
        v(in.v + std::int64_t{first} * in.v_tile),
        D(in.D),
        k_tile(in.k_tile),
        v_tile(in.v_tile),
        sink_tiles(in.sink_tiles),
        ring(in.ring) {}
  // Which tile of the slot and key head has a page.
  __device__ int PlaceOf(int page) const { return CacheTile(page, sink_tiles, ring); }

  // Asks for the tiles from `first` on, by one warp. What others have still to write may be among them: this reads
  // nothing, it only brings lines nearer.
  __device__ void Fetch(int first) const {
#if __CUDA_ARCH__ >= 900
    const auto fetch = [&](const BFloat16* from) {
      asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" : : "l"(from), "r"(kKeyTile * D * 2));
    };
#pragma unroll 1
    for (int i = first * kPages + Lane(); i < tiles.count() * kPages; i += kWarp) {
      const int page = tiles[i / kPages] * kPages + i % kPages;
      if (!pages.Holds(page)) continue;
      const std::int64_t place = PlaceOf(page);
      fetch(k + place * k_tile);
      fetch(v + place * v_tile);
    }
#endif
  }

  // Begins to copy the keys begin <= key < end of a tile that are seen, with those beside them, and their values, by
  // one warp. What runs once is kept short, here and below, since its instructions have to be fetched as well.
  template <int P>
  __device__ void Copy(HeldTile<P>& to, int tile, int begin, int end) const {
    constexpr int kPieces = P / 8, kRows = kWarp / kPieces;
    const int column = Lane() % kPieces * 8, bytes = column < D ? 16 : 0;
#pragma unroll 1
    for (int i = 0; i < kPages; ++i) {
      const int page = tile * kPages + i, last = min(end - page * kKeyTile, kKeyTile);
      int row = max(begin - page * kKeyTile, 0) + Lane() / kPieces;
      if (row >= last || !pages.Holds(page)) continue;
      const int place = PlaceOf(page), within = row * D + (bytes > 0 ? column : 0);
      const BFloat16 *from_k = k + std::int64_t{place} * k_tile + within,
                     *from_v = v + std::int64_t{place} * v_tile + within;
      int at = i * kTileSize<P> + row * kPitch<P> + column;
#pragma unroll 2
      for (; row < last; row += kRows, from_k += kRows * D, from_v += kRows * D, at += kRows * kPitch<P>) {
        CopyAsync16(to.keys + at, from_k, bytes);
        CopyAsync16(to.values + at, from_v, bytes);
      }
    }
  }
  // Zeros stand for the values behind the position. For keys whatever is there will do, since their scores are masked.
  template <int P>
  __device__ void ClearRest(HeldTile<P>& tile, int index) const {
    constexpr int kPieces = P / 8;
    const int begin = position + 1 - index * kSoftmaxTile, end = (begin + kKeyTile - 1) / kKeyTile * kKeyTile;
    if (begin <= 0 || begin >= kSoftmaxTile) return;
#pragma unroll 1
    for (int i = begin * kPieces + Lane(); i < end * kPieces; i += kWarp) {
      *reinterpret_cast<uint4*>(tile.values + i / kPieces * kPitch<P> + i % kPieces * 8) = uint4{};
    }
  }
};

// Some blocks of 16 columns of the output: of warp w the blocks w, w + the number of warps, ...
template <int P>
struct Columns {
  static constexpr int kBlocks = P / 16, kOwn = (kBlocks + kFewestWarps - 1) / kFewestWarps;
  float at[kOwn][2][4];

  __device__ static int Block(int own) { return static_cast<int>(threadIdx.x + own * blockDim.x) / kWarp; }
  __device__ void Rescale(const float (&rescale)[2]) {
    RescaleSums<kOwn * 2>([&](int block) { return at[block / 2][block % 2]; }, rescale);
  }
  // Adds the weights of a page's keys, times its values.
  __device__ void AddPage(HeldTile<P>& tile, int page) {
    uint4 weights[kPageSteps];
    unsigned b[kOwn][kPageSteps][4];
#pragma unroll
    for (int step = 0; step < kPageSteps; ++step) weights[step] = tile.Weights(page * kPageSteps + step);
    const BFloat16* from =
        tile.values + page * kTileSize<P> + (Lane() / 8 % 2 * 8 + Lane() % 8) * kPitch<P> + Lane() / 16 * 8;
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      if (Block(own) >= kBlocks) break;
#pragma unroll
      for (int step = 0; step < kPageSteps; ++step) {
        LoadMatrix4Transposed(b[own][step], from + step * 16 * kPitch<P> + Block(own) * 16);
      }
    }
#pragma unroll
    for (int step = 0; step < kPageSteps; ++step) {
      const unsigned a[4] = {weights[step].x, weights[step].y, weights[step].z, weights[step].w};
#pragma unroll
      for (int own = 0; own < kOwn; ++own) {
        if (Block(own) >= kBlocks) break;
        MultiplyAccumulate(at[own][0], a, b[own][step][0], b[own][step][1]);
        MultiplyAccumulate(at[own][1], a, b[own][step][2], b[own][step][3]);
      }
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

// Grid: rows, key heads, and parts of a key head's queries. `held`: tiles at a time, of which each warp has one at
// most.
template <int P>
__global__ __launch_bounds__(kMostTiles* kWarp) void CachedForwardKernel(CachedQueries in, int held, BFloat16* out,
                                                                         float* lse) {
  extern __shared__ uint4 shared[];
  auto* const all = reinterpret_cast<HeldTile<P>*>(shared);
  LetNextBegin();
  const int n = static_cast<int>(blockIdx.x), g = static_cast<int>(blockIdx.y),
            warp = static_cast<int>(threadIdx.x) / kWarp;
  const CopiedKeys seen(in, n, g);
  const int tiles = seen.tiles.count(), first_new = in.early ? FirstNewKey(in.slots, n, seen.position) : 0;
  HeldTile<P>& own = all[min(warp, held - 1)];
  const HeadsOfRow heads(in, n, g, static_cast<int>(blockIdx.z));
  const int rows = heads.rows();

  RowsAsA<P, true> queries[1];
  RowSoftmax softmax;
  Columns<P> o = {};
  // The round before the first copies what is there already, and no more.
#pragma unroll 1
  for (int round = -held; round < max(tiles, 1); round += held) {
    const int first = max(round, 0), count = min(held, tiles - first);
    const bool takes = warp < count;
    if (round == 0) WaitForPrevious();
    if (round > 0) __syncthreads();  // all are done with the tiles before
    if (takes) {
      seen.Copy(own, seen.tiles[first + warp], round == 0 ? first_new : 0, round < 0 ? first_new : seen.position + 1);
      if (round != 0) seen.ClearRest(own, seen.tiles[first + warp]);
    }
    if (round < 0) {
      if (warp == 0) seen.Fetch(held);
      continue;
    }
    if (round == 0) {
      queries[0].LoadGlobal(heads.Queries(in), heads.count, in.D);
      heads.Begin(softmax, in.sinks);
    }
    CommitCopies();
    WaitCopies<0>();
    __syncwarp();
    Scores<1> scores[kPages];
    const auto scores_at = [&](int block) { return scores[block / (kTileRows / 8)][0][block % (kTileRows / 8)]; };
    if (takes) {
      const int tile = seen.tiles[first + warp];
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (!seen.pages.Holds(tile * kPages + page)) continue;
        MultiplyByRows(scores[page], queries, own.keys + page * kTileSize<P>);
      }
      seen.Mask(scores_at, tile);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (i < rows) own.notes.largest[i][Lane()] = RowSoftmax::LargestOf(scores_at, i);
      }
    }
    __syncthreads();

#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i >= rows) break;
      float base = 0, rescale = 1;
#pragma unroll 1
      for (int member = 0; member < count; ++member) {
        float of_member;
        const float of_tile = softmax.Raise(i, all[member].notes.largest[i][Lane()], in.scale2, of_member);
        if (member == warp) base = of_tile, rescale = of_member;
      }
      if (!takes) continue;
      own.notes.rescale[i][Lane()] = rescale;
      own.notes.total[i][Lane()] = RowSoftmax::WeighRow(scores_at, i, in.scale2, base);
    }
    if (takes) {
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        unsigned weights[kPageSteps][4];
        RoundToA(weights, scores[page][0]);
#pragma unroll
        for (int k = 0; k < kPageSteps; ++k) {
          const auto [w0, w1, w2, w3] = weights[k];
          own.Weights(page * kPageSteps + k) = make_uint4(w0, w1, w2, w3);
        }
      }
    }
    __syncthreads();

#pragma unroll 1
    for (int member = 0; member < count; ++member) {
      float rescale[2] = {1, 1};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (i >= rows) break;
        rescale[i] = all[member].notes.rescale[i][Lane()];
        softmax.Add(i, rescale[i], all[member].notes.total[i][Lane()]);
      }
      o.Rescale(rescale);
      const int first_page = seen.tiles[first + member] * kPages;
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (seen.pages.Holds(first_page + page)) o.AddPage(all[member], page);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (i >= rows) break;
    const float sum = softmax.Sum(i);
    if (!heads.There(i)) continue;
    o.Store(out + (heads.row + 8 * i) * in.D, in.D, i, RowSoftmax::Inverse(sum));
    if (warp > 0 || Lane() % 4 != 0) continue;
    lse[heads.row + 8 * i] = softmax.LogSum(i, sum, heads.Sink(i, in.sinks));
  }
}

// A block holds as many tiles as leave room for the blocks that a multiprocessor gets, three at most.
template <int P>
void LaunchCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in) {
  constexpr std::int64_t kMostBlocks = 3;
  constexpr int kOfBlock = 1024;  // bytes that the system takes for each block
  const dim3 grid(static_cast<unsigned>(in.N), static_cast<unsigned>(in.G), static_cast<unsigned>(in.Parts()));
  const std::int64_t blocks = std::int64_t{grid.x} * grid.y * grid.z;
  const auto each = static_cast<int>(std::min(Blocks(blocks, ctx.stream->multiprocessors), kMostBlocks));
  const int room = (ctx.stream->shared_memory + kOfBlock) / std::max(each, 1) - kOfBlock,
            held = std::clamp(room / static_cast<int>(sizeof(HeldTile<P>)), 1,
                              std::min(kMostTiles, in.tiles / kPages + 1));
  const LaunchShape shape{grid, static_cast<unsigned>(std::max(held, kFewestWarps) * kWarp),
                          static_cast<std::size_t>(held) * sizeof(HeldTile<P>), /*early=*/true};
  Launch(ctx, shape, CachedForwardKernel<P>, in, held, out, lse);
}

}  // namespace

void MmaCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  const auto as_int = [](std::int64_t n) { return static_cast<int>(n); };
  const int H = as_int(in.q.dim(1)), D = as_int(in.q.dim(2)), G = as_int(in.cache.k().dim(1));
  const auto rows_of = [](const Tensor& t) { return t.empty() ? nullptr : t.data<std::int32_t>(); };
  const CachedQueries queries{.q = in.q.data<BFloat16>(),
                              .k = in.cache.k().data<BFloat16>(),
                              .v = in.cache.v().data<BFloat16>(),
                              .sinks = in.sink_logits.empty() ? nullptr : in.sink_logits.data<BFloat16>(),
                              .positions = rows_of(in.q_pos),
                              .slots = rows_of(in.slots),
                              .prompts = rows_of(in.prompts),
                              .N = as_int(in.q.dim(0)),
                              .H = H,
                              .G = G,
                              .D = D,
                              .group = H / G,
                              .tiles = in.cache.tiles(),
                              .k_tile = as_int(in.cache.k().dim(3)),
                              .v_tile = as_int(in.cache.v().dim(3)),
                              .sink_tiles = in.cache.sink_tiles(),
                              .ring = in.cache.ring(),
                              .cache_rows = in.cache.k().size() / in.q.dim(2),
                              .of_model = in.spec,
                              .scale2 = ScoreScale2(D),
                              .early = ctx.steady_weights};
  if (StreamsKeys(ctx, queries)) return StreamedForward(ctx, out, lse, queries);
  DispatchWidth(D, [&]<int P>() { LaunchCachedForward<P>(ctx, out, lse, queries); });
}

}  // namespace swarr
