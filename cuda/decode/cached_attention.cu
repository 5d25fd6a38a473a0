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
// tiles are taken at a time.
#include <algorithm>

#include "cuda/attention/attention_softmax.h"

namespace swarr {
namespace {

static_assert(kTileRows == kKeyTile);

constexpr int kPages = kSoftmaxTile / kKeyTile;   // of a tile of the softmax: tiles of the cache
constexpr int kPageSteps = kKeyTile / 16;         // of a product with a page's values
constexpr int kQueries = 16;                      // of a block
constexpr int kFewestWarps = 4, kMostTiles = 12;  // of a block; tiles: at a time
template <int P>
constexpr int kTilePart = kPages* kTileSize<P>;  // keys, or values, of a tile of the softmax

// What a launch reads, in integers of 32 bits: divisions of longer ones are long.
struct CachedQueries {
  const BFloat16 *q, *k, *v, *sinks;
  const std::int32_t *positions, *slots, *prompts;
  int H, D, group;  // group: query heads of a key head
  int tiles, k_tile, v_tile, sink_tiles, ring;
  AttentionSpec of_model;
  float scale2;
  int held;    // tiles at a time, of which each warp has one at most
  bool early;  // keys that no row of this launch stores were there before the launch before
};

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

// The keys and values that a block's queries see. All of its rows stand at one position.
struct SeenKeys {
  const BFloat16 *k, *v;  // of the slot and the key head
  int D, k_tile, v_tile, sink_tiles, ring, position;
  AttentionSpec spec;
  TileList pages, tiles;

  __device__ SeenKeys(const CachedQueries& in, int n, int g)
      : D(in.D),
        k_tile(in.k_tile),
        v_tile(in.v_tile),
        sink_tiles(in.sink_tiles),
        ring(in.ring),
        position(in.positions[n]),
        spec(SpecOfRow(in.of_model, in.prompts, n)),
        pages{VisibleTilesOf(position, position, spec)},
        tiles(SoftmaxTilesOf(pages)) {
    const std::int64_t first = std::int64_t{in.slots[n] * static_cast<int>(gridDim.y) + g} * in.tiles;
    k = in.k + first * k_tile;
    v = in.v + first * v_tile;
  }
  // Where the cache has a page.
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

  // Scores of keys that are not seen become nothing, in both rows of a lane.
  template <class Blocks>
  __device__ void Mask(Blocks&& at, int first_key) const {
    const VisibleKeys seen = VisibleKeysOf(position, spec);
    if (first_key >= seen.recent.begin && first_key + kSoftmaxTile <= seen.recent.end) return;
    const int first = first_key + 2 * (Lane() % 4), begin = first - seen.recent.begin, sinks = seen.sinks.end - first;
    const auto size = static_cast<unsigned>(seen.recent.size());
#pragma unroll
    for (int block = 0; block < kSoftmaxBlocks; ++block) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = 8 * block + j;
        if (static_cast<unsigned>(begin + column) < size || column < sinks) continue;
        at(block)[j] = at(block)[2 + j] = kNothing;
      }
    }
  }
};

// The first key that the launch before may write, where a step's rows of one slot stand together and ascend: those
// before row n are looked at. All lanes call.
__device__ inline int FirstNewKey(const std::int32_t* slots, int n, int position) {
  const int before = n - 1 - Lane();
  const unsigned others = __ballot_sync(0xffffffffu, before < 0 || slots[before] != slots[n]);
  return others == 0 ? 0 : max(0, position - (__ffs(static_cast<int>(others)) - 1));
}

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

// Grid: rows, key heads, and parts of a key head's queries.
template <int P>
__global__ __launch_bounds__(kMostTiles* kWarp) void CachedForwardKernel(CachedQueries in, BFloat16* out, float* lse) {
  extern __shared__ uint4 shared[];
  auto* const all = reinterpret_cast<HeldTile<P>*>(shared);
  LetNextBegin();
  const int n = static_cast<int>(blockIdx.x), g = static_cast<int>(blockIdx.y),
            part = static_cast<int>(blockIdx.z) * kQueries, warp = static_cast<int>(threadIdx.x) / kWarp;
  const SeenKeys seen(in, n, g);
  const int tiles = seen.tiles.count(), first_new = in.early ? FirstNewKey(in.slots, n, seen.position) : 0;
  HeldTile<P>& own = all[min(warp, in.held - 1)];
  // A lane's rows, of which some are there, begin with this one. Few models have the second, which is 8 behind.
  const int heads = min(kQueries, in.group - part), rows = heads > 8 ? 2 : 1, head = g * in.group + part + Lane() / 4;
  const std::int64_t row = std::int64_t{n} * in.H + head;
  const auto there = [&](int i) { return Lane() / 4 + 8 * i < heads; };

  RowsAsA<P, true> queries[1];
  RowSoftmax softmax;
  Columns<P> o = {};
  // The round before the first copies what is there already, and no more.
#pragma unroll 1
  for (int round = -in.held; round < max(tiles, 1); round += in.held) {
    const int first = max(round, 0), count = min(in.held, tiles - first);
    const bool takes = warp < count;
    if (round == 0) WaitForPrevious();
    if (round > 0) __syncthreads();  // all are done with the tiles before
    if (takes) {
      seen.Copy(own, seen.tiles[first + warp], round == 0 ? first_new : 0, round < 0 ? first_new : seen.position + 1);
      if (round != 0) seen.ClearRest(own, seen.tiles[first + warp]);
    }
    if (round < 0) {
      if (warp == 0) seen.Fetch(in.held);
      continue;
    }
    if (round == 0) {
      queries[0].LoadGlobal(in.q + (row - Lane() / 4) * in.D, heads, in.D);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (in.sinks && there(i)) softmax.BeginWith(i, float(in.sinks[head + 8 * i]));
      }
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
      seen.Mask(scores_at, tile * kSoftmaxTile);
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
    if (!there(i)) continue;
    o.Store(out + (row + 8 * i) * in.D, in.D, i, RowSoftmax::Inverse(sum));
    if (warp > 0 || Lane() % 4 != 0) continue;
    lse[row + 8 * i] = softmax.LogSum(i, sum, in.sinks ? float(in.sinks[head + 8 * i]) : kNothing);
  }
}

// A block holds as many tiles as leave room for the blocks that a multiprocessor gets, three at most.
template <int P>
void LaunchCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, CachedQueries in, const dim3& grid) {
  constexpr std::int64_t kMostBlocks = 3;
  constexpr int kOfBlock = 1024;  // bytes that the system takes for each block
  const std::int64_t blocks = std::int64_t{grid.x} * grid.y * grid.z;
  const auto each = static_cast<int>(std::min(Blocks(blocks, ctx.stream->multiprocessors), kMostBlocks));
  const int room = (ctx.stream->shared_memory + kOfBlock) / std::max(each, 1) - kOfBlock;
  in.held = std::clamp(room / static_cast<int>(sizeof(HeldTile<P>)), 1, std::min(kMostTiles, in.tiles / kPages + 1));
  const LaunchShape shape{grid, static_cast<unsigned>(std::max(in.held, kFewestWarps) * kWarp),
                          static_cast<std::size_t>(in.held) * sizeof(HeldTile<P>), /*early=*/true};
  Launch(ctx, shape, CachedForwardKernel<P>, in, out, lse);
}

}  // namespace

void MmaCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  const auto as_int = [](std::int64_t n) { return static_cast<int>(n); };
  const int H = as_int(in.q.dim(1)), D = as_int(in.q.dim(2)), G = as_int(in.cache.k().dim(1)), group = H / G;
  const auto rows_of = [](const Tensor& t) { return t.empty() ? nullptr : t.data<std::int32_t>(); };
  const CachedQueries queries{.q = in.q.data<BFloat16>(),
                              .k = in.cache.k().data<BFloat16>(),
                              .v = in.cache.v().data<BFloat16>(),
                              .sinks = in.sink_logits.empty() ? nullptr : in.sink_logits.data<BFloat16>(),
                              .positions = rows_of(in.q_pos),
                              .slots = rows_of(in.slots),
                              .prompts = rows_of(in.prompts),
                              .H = H,
                              .D = D,
                              .group = group,
                              .tiles = in.cache.tiles(),
                              .k_tile = as_int(in.cache.k().dim(3)),
                              .v_tile = as_int(in.cache.v().dim(3)),
                              .sink_tiles = in.cache.sink_tiles(),
                              .ring = in.cache.ring(),
                              .of_model = in.spec,
                              .scale2 = ScoreScale2(D),
                              .held = 1,
                              .early = ctx.steady_weights};
  const dim3 grid(static_cast<unsigned>(in.q.dim(0)), static_cast<unsigned>(G),
                  static_cast<unsigned>(Blocks(group, kQueries)));
  DispatchWidth(D, [&]<int P>() { LaunchCachedForward<P>(ctx, out, lse, queries, grid); });
}

}  // namespace swarr
