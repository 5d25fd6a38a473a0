// SPDX-License-Identifier: Apache-2.0
// Attention's forward over a cache where no tensor cores multiply: f64, f32, and bf16 with odd heads. It has the bits
// of attention_kernel.cu, whose forward over documents is its definition. As in cached_attention.cu a block takes one
// row, here one head of it, and its warps share what does not depend on earlier tiles of keys: each takes a tile and
// has its scores; each goes through the largest scores of all tiles in order and then weighs its own; and each has some
// columns of the output, and goes through the weights and values of all tiles in order.
#include <cmath>

#include "cuda/attention/attention_tiles.h"
#include "cuda/mma.h"
#include "cuda/pack.h"
#include "tensor/kernels/math.h"

namespace swarr {
namespace {

constexpr int kMostTeam = 4;

// Of the tiles that the warps have: the largest score, by what earlier sums shrink, and the sum of the weights.
template <class Sum>
struct Notes {
  Sum largest[kMostTeam], rescale[kMostTeam], total[kMostTeam], weights[kMostTeam][kKeyTile];
};

// Where a warp's tile of keys or values lies in shared memory: rows of whole packs and one more, so that lanes which
// read a row each find it in different banks.
template <class T>
__host__ __device__ constexpr int PitchOf(int D) {
  return (D + kPack<T> - 1) / kPack<T> * kPack<T> + kPack<T>;
}

// Begins to copy `rows` rows of a tile of the cache, by one warp.
template <class T>
__device__ void CopyRows(T* to, const T* from, int rows, int D) {
  constexpr int k = kPack<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, pitch = PitchOf<T>(D);
  if (D % k == 0) {
    const int across = D / k;
    for (int i = lane; i < rows * across; i += kWarp)
      CopyAsync16(to + i / across * pitch + i % across * k, from + i * k);
  } else {
    for (int i = lane; i < rows * D; i += kWarp) to[i / D * pitch + i % D] = from[i];
  }
}

// x . y, ascending.
template <class T, class Sum = Accumulator<T>>
__device__ Sum Dot(const T* x, const T* y, int D) {
  constexpr int k = kPack<T>;
  Sum dot = 0;
  int c = 0;
  for (; c + k <= D; c += k) {
    const auto a = *reinterpret_cast<const Pack<T, k>*>(x + c), b = *reinterpret_cast<const Pack<T, k>*>(y + c);
#pragma unroll
    for (int j = 0; j < k; ++j) dot = fma(Sum(a.at[j]), Sum(b.at[j]), dot);
  }
  for (; c < D; ++c) dot = fma(Sum(x[c]), Sum(y[c]), dot);
  return dot;
}

// Shared memory: the query and the sums of the output, each a row, then the warps' tiles of keys and of values.
template <class T>
std::size_t BytesOf(int team, int D) {
  return sizeof(Accumulator<T>) * PitchOf<Accumulator<T>>(D) + sizeof(T) * PitchOf<T>(D) * (1 + 2 * team * kKeyTile);
}

template <class T>
__global__ void ScalarForwardKernel(SlotQueries<T> source, T* out, Accumulator<T>* lse, const T* q,
                                    const std::int32_t* q_pos, const std::int32_t* prompts, const T* sinks,
                                    AttentionSpec of_model, Accumulator<T> scale) {
  using Sum = Accumulator<T>;
  constexpr Sum kNothing = -std::numeric_limits<Sum>::infinity();
  extern __shared__ uint4 shared[];
  __shared__ Notes<Sum> notes;
  const int D = static_cast<int>(source.D), pitch = PitchOf<T>(D), thread = static_cast<int>(threadIdx.x),
            threads = static_cast<int>(blockDim.x), team = threads / kWarp, warp = thread / kWarp,
            lane = thread % kWarp;
  Sum* o = reinterpret_cast<Sum*>(shared);
  T *query = reinterpret_cast<T*>(o + PitchOf<Sum>(D)), *keys = query + pitch, *values = keys + team * kKeyTile * pitch;
  LetNextBegin();
  WaitForPrevious();
  const std::int64_t row = blockIdx.x, n = row / source.H;
  const QueryBlock<T> b = source.Block(row / source.H * source.G + row % source.H / (source.H / source.G),
                                       static_cast<int>(source.H / source.G), q_pos);
  const AttentionSpec spec = SpecOfRow(of_model, prompts, n);
  const int position = q_pos[n];
  const PositionBounds bounds{position < 0 ? std::numeric_limits<int>::max() : position, max(position, -1),
                              position < 0};
  const TileList tiles = bounds.Tiles(spec);
  Sum largest = sinks ? Sum(sinks[row % source.H]) : kNothing, sum = sinks ? Sum(1) : Sum(0);
  for (int c = thread; c < D; c += threads) {
    query[c] = q[row * D + c];
    o[c] = 0;
  }
  T *own_keys = keys + warp * kKeyTile * pitch, *own_values = values + warp * kKeyTile * pitch;
  for (int first = 0; first < tiles.count(); first += team) {
    const int count = min(team, tiles.count() - first), tile = tiles[min(first + warp, tiles.count() - 1)];
    const bool takes = warp < count;
    __syncthreads();  // the query is there, and all are done with the tiles before
    if (takes) {
      CopyRows(own_keys, b.keys.K(tile), b.keys.Valid(tile), D);
      CommitCopies();
      CopyRows(own_values, b.keys.V(tile), b.keys.Valid(tile), D);
    }
    CommitCopies();
    WaitCopies<1>();
    __syncwarp();
    Sum score = kNothing;
    if (takes) {
      if (Visible(position, tile * kKeyTile + lane, spec)) score = Dot<T>(query, own_keys + lane * pitch, D) * scale;
      notes.largest[warp] = WarpMax(score);
    }
    __syncthreads();
    Sum base = 0;
    for (int member = 0; member < count; ++member) {
      const Sum new_largest = max(largest, notes.largest[member]),
                of_tile = new_largest == kNothing ? Sum(0) : new_largest;
      if (member == warp) {
        base = of_tile;
        notes.rescale[warp] = Exp(largest - of_tile);
      }
      largest = new_largest;
    }
    if (takes) {
      const Sum weight = Exp(score - base);
      notes.total[warp] = WarpSum(weight);
      notes.weights[warp][lane] = Sum(static_cast<T>(weight));
    }
    WaitCopies<0>();
    __syncthreads();
    for (int member = 0; member < count; ++member) sum = sum * notes.rescale[member] + notes.total[member];
    for (int c = thread; c < D; c += threads) {
      Sum x = o[c];
      for (int member = 0; member < count; ++member) {
        const T* column = values + member * kKeyTile * pitch + c;
        const int valid = b.keys.Valid(tiles[first + member]);
        x *= notes.rescale[member];
#pragma unroll 8
        for (int j = 0; j < valid; ++j) x = fma(notes.weights[member][j], Sum(column[j * pitch]), x);
      }
      o[c] = x;
    }
  }
  const bool blind = sum == Sum(0);
  const Sum inverse = blind ? Sum(0) : Sum(1) / sum;
  // + 0: as in Gradient::Add.
  for (int c = thread; c < D; c += threads) out[row * D + c] = static_cast<T>(o[c] * inverse + Sum(0));
  if (thread == 0) lse[row] = blind ? kNothing : largest + log(sum);
}

}  // namespace

void ScalarCachedForward(const Context& ctx, const Tensor& out, const Tensor& lse, const CachedAttentionInputs& in) {
  Dispatch(in.q.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const auto D = static_cast<int>(in.q.dim(2));
    int team = kMostTeam;
    while (team > 1 && BytesOf<T>(team, D) > 64 * 1024) team /= 2;
    const LaunchShape shape{static_cast<unsigned>(in.q.dim(0) * in.q.dim(1)), static_cast<unsigned>(team * kWarp),
                            BytesOf<T>(team, D), /*early=*/true};
    Launch(ctx, shape, ScalarForwardKernel<T>, QueriesOfSlots<T>(in.q, in.cache, in.slots), out, lse, in.q, in.q_pos,
           in.prompts, in.sink_logits, in.spec, Sum(1) / std::sqrt(static_cast<Sum>(D)));
  });
}

}  // namespace swarr
