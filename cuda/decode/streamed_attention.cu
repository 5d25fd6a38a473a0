// SPDX-License-Identifier: Apache-2.0
// Attention's forward over a cache for steps of many rows, for bf16 on tensor cores: a warp takes the query heads of
// one row that share a key head, and goes through their keys alone (attention_mma.cu has the same loop). With so many
// rows nobody waits for one of them. What counts is that the device's memory always has something to bring, so
//
//   - blocks live on, and their warps take one work after another;
//   - a warp has room for some tiles of keys and values of its own, and as soon as it is done with one it asks for the
//     next tile that it will want, be it of its next work;
//   - no warp waits for another.
#include <algorithm>

#include "cuda/decode/cached_keys.h"
#include "cuda/pack.h"

namespace swarr {
namespace {

constexpr int kBlocksAtOnce = 2;  // that share a multiprocessor: one finds room beside the last of the launch before

// How a block of warps holds keys of heads of up to P numbers; `whole`: of P.
template <int P_, bool whole, int warps, int tiles>
struct StreamShape {
  static constexpr int P = P_, kWarps = warps, kTiles = tiles;  // kTiles: that a warp holds, keys and values of each
  static constexpr bool kWhole = whole;

  __device__ static int Width(const CachedQueries& in) { return kWhole ? P : in.D; }
};

// What a warp holds of a tile.
template <int P>
struct StreamedTile {
  BFloat16 keys[kTilePart<P>], values[kTilePart<P>];
};

// Works are rows and key heads and their parts; the blocks' warps take them in turns.
struct Work {
  int n, g, part;

  __device__ Work(const CachedQueries& in, int index)
      : n(index / (in.Parts() * in.G)), g(index / in.Parts() % in.G), part(index % in.Parts()) {}
};
__device__ inline int FirstWork() { return static_cast<int>(threadIdx.x / kWarp * gridDim.x + blockIdx.x); }
__device__ inline int NextWork(int work) { return work + static_cast<int>(gridDim.x * (blockDim.x / kWarp)); }

__device__ inline SeenKeys KeysOfWork(const CachedQueries& in, int index, int works) {
  if (index >= works) return {};
  const Work work(in, index);
  return {in, work.n, work.g};
}

// The tiles of a warp's works one after another, as they are asked for.
template <class S>
class TileFeed {
  static_assert(kPages == 2);

 public:
  __device__ TileFeed(const CachedQueries& in, int works) : in_(in), works_(works), work_(FirstWork()) { Look(); }

  // Whether the launch before writes nothing of this tile.
  __device__ bool IsOld() const {
    if (!in_.early || Done()) return false;
    return (tile_ + 1) * kSoftmaxTile <= FirstNewKey(in_.slots, Work(in_, work_).n, seen_.position);
  }
  // Begin to copy the tile's keys, its values.
  __device__ void Keys(BFloat16* to) const { Copy(to, in_.k, in_.k_tile); }
  __device__ void Values(BFloat16* to) const { Copy(to, in_.v, in_.v_tile); }
  __device__ void Next() {
    if (Done()) return;
    if (++at_ < seen_.tiles.count()) return Locate();
    work_ = NextWork(work_);
    Look();
  }

 private:
  const CachedQueries& in_;
  int works_, work_, at_ = 0, tile_ = 0, places_[kPages] = {};
  SeenKeys seen_;

  __device__ bool Done() const { return work_ >= works_; }
  // Without an index: an array that is asked for some index does not stay in registers.
  __device__ std::int64_t PlaceOf(int page) const { return page == 0 ? places_[0] : places_[kPages - 1]; }
  // Finds the first tile from this work on.
  __device__ void Look() {
    at_ = 0;
    for (; !Done(); work_ = NextWork(work_)) {
      const Work work(in_, work_);
      seen_ = SeenKeys(in_, work.n, work.g);
      if (seen_.tiles.count() > 0) return Locate();
    }
  }
  __device__ void Locate() {
    tile_ = seen_.tiles[at_];
#pragma unroll
    for (int i = 0; i < kPages; ++i) places_[i] = seen_.PlaceInCache(in_, tile_ * kPages + i);
  }
  // Zeros stand for what is behind the position, and beside the head. Whole tiles, as most are, are copied without
  // asking.
  __device__ void Copy(BFloat16* to, const BFloat16* from, int page_size) const {
    constexpr int kPieces = S::P / 8, kRows = kWarp / kPieces;
    const int D = S::Width(in_), own_row = Lane() / kPieces, column = Lane() % kPieces * 8,
              count = seen_.position + 1 - tile_ * kSoftmaxTile;
    BFloat16* const own = to + own_row * kPitch<S::P> + column;
    from += own_row * D + (column < D ? column : 0);
    if (!Done() && S::kWhole && count >= kSoftmaxTile && seen_.pages.Holds(tile_ * kPages)) {
#pragma unroll
      for (int i = 0; i < kPages; ++i) {
        const BFloat16* page = from + PlaceOf(i) * page_size;
#pragma unroll
        for (int row = 0; row < kKeyTile; row += kRows) {
          CopyAsync16(own + i * kTileSize<S::P> + row * kPitch<S::P>, page + row * D);
        }
      }
    } else if (!Done()) {
#pragma unroll 1
      for (int row = 0; row < kSoftmaxTile; row += kRows) {
        const int i = row / kKeyTile, at = row % kKeyTile;
        if (!seen_.pages.Holds(tile_ * kPages + i)) continue;
        CopyAsync16(own + i * kTileSize<S::P> + at * kPitch<S::P>, from + PlaceOf(i) * page_size + at * D,
                    column < D && row + own_row < count ? 16 : 0);
      }
    }
    CommitCopies();
  }
};

template <class S>
__global__ __launch_bounds__(S::kWarps* kWarp,
                             kBlocksAtOnce) void StreamedForwardKernel(const __grid_constant__ CachedQueries in,
                                                                       BFloat16* out, float* lse) {
  extern __shared__ uint4 shared[];
  constexpr int P = S::P;
  // Behind the copies that are waited for, these many others may be on their way.
  constexpr int kOnTheirWay = 2 * S::kTiles - 1;
  auto* const held = reinterpret_cast<StreamedTile<P>*>(shared) + threadIdx.x / kWarp * S::kTiles;
  LetNextBegin();
  const int works = in.N * in.G * in.Parts();
  TileFeed<S> feed(in, works);
  bool waited = false;
  for (int i = 0; i < S::kTiles; ++i, feed.Next()) {
    if (!waited && !feed.IsOld()) {
      WaitForPrevious();
      waited = true;
    }
    feed.Keys(held[i].keys);
    feed.Values(held[i].values);
  }
  int index = FirstWork();
  SeenKeys seen = KeysOfWork(in, index, works);
  if (!waited) WaitForPrevious();

  int place = 0;  // of a tile among those held
#pragma unroll 1
  for (; index < works; index = NextWork(index), seen = KeysOfWork(in, index, works)) {
    const Work work(in, index);
    const HeadsOfRow heads(in, work.n, work.g, work.part);
    RowsAsA<P, true> queries[1];
    queries[0].LoadGlobal(heads.Queries(in), heads.count, S::Width(in));
    RowSoftmax softmax;
    heads.Begin(softmax, in.sinks);
    RowSums<1, P> o = {};
#pragma unroll 1
    for (int t = 0; t < seen.tiles.count(); ++t) {
      const int tile = seen.tiles[t];
      StreamedTile<P>& own = held[place];
      place = place + 1 < S::kTiles ? place + 1 : 0;

      WaitCopies<kOnTheirWay>();
      __syncwarp();
      Scores<1> scores[kPages];
      const auto scores_at = [&](int block) { return scores[block / (kTileRows / 8)][0][block % (kTileRows / 8)]; };
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (!seen.pages.Holds(tile * kPages + page)) continue;
        MultiplyByRows(scores[page], queries, own.keys + page * kTileSize<P>);
      }
      __syncwarp();
      feed.Keys(own.keys);
      seen.Mask(scores_at, tile);
      float rescale[2] = {1, 1};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (i >= heads.rows()) break;
        const float base = softmax.Raise(i, RowSoftmax::LargestOf(scores_at, i), in.scale2, rescale[i]);
        softmax.Add(i, rescale[i], RowSoftmax::WeighRow(scores_at, i, in.scale2, base));
      }
      RescaleSums<P / 8>([&](int block) { return o[0][block]; }, rescale);
      WeightsAsA<1> weights[kPages];
#pragma unroll
      for (int page = 0; page < kPages; ++page) RoundToA(weights[page][0], scores[page][0]);

      WaitCopies<kOnTheirWay>();
      __syncwarp();
#pragma unroll
      for (int page = 0; page < kPages; ++page) {
        if (!seen.pages.Holds(tile * kPages + page)) continue;
        AddProducts<P, 1>(o, weights[page], own.values + page * kTileSize<P>);
      }
      __syncwarp();
      feed.Values(own.values);
      feed.Next();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i >= heads.rows()) break;
      StoreRow<P / 8>(out, lse, heads.There(i) ? heads.row + 8 * i : -1, S::Width(in), i, softmax,
                      heads.Sink(i, in.sinks), [&](int block) { return o[0][block]; });
    }
  }
}

template <class S>
void LaunchStreamed(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in) {
  const std::int64_t blocks = std::min(Blocks(std::int64_t{in.N} * in.G * in.Parts(), S::kWarps),
                                       std::int64_t{kBlocksAtOnce} * ctx.stream->multiprocessors);
  Launch(ctx,
         {static_cast<unsigned>(blocks), S::kWarps * kWarp, S::kWarps * S::kTiles * sizeof(StreamedTile<S::P>),
          /*early=*/true},
         StreamedForwardKernel<S>, in, out, lse);
}

}  // namespace

bool StreamsKeys(const Context& ctx, const CachedQueries& in) {
  constexpr int kLeast = 4;  // works of a multiprocessor
  return in.N * in.G * in.Parts() > kLeast * ctx.stream->multiprocessors;
}

void StreamedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedQueries& in) {
  // Works of a multiprocessor, from which on twice as many warps hold half as many tiles.
  constexpr int kMany = 9;
  const bool many = in.N * in.G * in.Parts() > kMany * ctx.stream->multiprocessors;
  DispatchWidth(in.D, [&]<int P>() {
    WithWhole(in.D == P, [&]<bool whole>() {
      if constexpr (P > 64) {
        LaunchStreamed<StreamShape<P, whole, 3, 1>>(ctx, out, lse, in);
      } else if (many) {
        LaunchStreamed<StreamShape<P, whole, 6, 1>>(ctx, out, lse, in);
      } else {
        LaunchStreamed<StreamShape<P, whole, 3, 2>>(ctx, out, lse, in);
      }
    });
  });
}

}  // namespace swarr
