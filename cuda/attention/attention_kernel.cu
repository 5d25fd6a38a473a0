// SPDX-License-Identifier: Apache-2.0
// Twin of src/attn/kernels/attention_kernel.cc: the forward over whole documents, and the storing of keys. For f64,
// f32, and for bf16 if the head dim doesn't suit the tensor cores (attention_mma.cu). One block for warps * kRows
// consecutive queries of one head (attention_rows.h); later ones come first, because they see more keys. Over a cache
// decode/scalar_attention.cu has the same bits.
//
// The softmax runs over tiles: a new maximum rescales what was summed before. It begins with nothing, or with the
// learned sink as if that were a key of value 0 before all others. A tile that a query doesn't see leaves
// its maximum, sum and output as they are: Exp(0) is 1, and a weight of 0 adds 0.
#include <cmath>

#include "cuda/attention/attention_rows.h"
#include "tensor/kernels/math.h"

namespace swarr {
namespace {

template <class T>
__global__ void ForwardKernel(DocumentQueries<T> source, T* out, Accumulator<T>* lse, const T* q,
                              const std::int32_t* q_pos, const std::int32_t* prompts, const T* sinks,
                              AttentionSpec of_model, Accumulator<T> scale) {
  using Sum = Accumulator<T>;
  constexpr Sum kNothing = -std::numeric_limits<Sum>::infinity();
  __shared__ Chunk<Sum> chunk;
  __shared__ Weights<Sum> weights[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const std::int64_t D = source.D;
  const QueryBlock<T> b = source.Block(gridDim.x - 1 - blockIdx.x, warps * kRows, q_pos);
  if (b.count <= 0) return;
  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first / source.H);
  const WarpRows rows(b, q_pos, source.H);
  const T* x[kRows];
  rows.Point(q, D, x);
  Sum* o = ZeroSums<Sum>(D, 1);
  Sum largest[kRows], sum[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    largest[r] = sinks ? Sum(sinks[rows.row[r] % source.H]) : kNothing;
    sum[r] = sinks ? Sum(1) : Sum(0);
  }

  const TileList tiles = BoundsOf(b, 0, b.count, q_pos, source.H).Tiles(spec);
  for (int i = 0; i < tiles.count(); ++i) {
    const int tile = tiles[i];
    Sum p[kRows], rescale[kRows];
    Dots(x, TileRows<T>{b.keys.K(tile), b.keys.row, b.keys.Valid(tile)}, D, chunk, p);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Sum score = Visible(rows.position[r], tile * kKeyTile + lane, spec) ? p[r] * scale : kNothing;
      const Sum new_largest = max(largest[r], WarpMax(score));
      const Sum base = new_largest == kNothing ? Sum(0) : new_largest;
      rescale[r] = Exp(largest[r] - base);
      const Sum weight = Exp(score - base);
      sum[r] = sum[r] * rescale[r] + WarpSum(weight);
      largest[r] = new_largest;
      p[r] = Sum(static_cast<T>(weight));
    }
    AddWeighted(p, rescale, TileRows<T>{b.keys.V(tile), b.keys.row, b.keys.Valid(tile)}, D, weights[warp], o);
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows.count) break;
    const bool blind = sum[r] == Sum(0);
    const Sum inverse = blind ? Sum(0) : Sum(1) / sum[r];
    // + 0: as in Gradient::Add.
    for (std::int64_t c = lane; c < D; c += kWarp) {
      out[rows.row[r] * D + c] = static_cast<T>(o[r * D + c] * inverse + Sum(0));
    }
    if (lane == 0) lse[rows.row[r]] = blind ? kNothing : largest[r] + log(sum[r]);
  }
}

// A warp stores one head of one row. Both layouts of a tile are rows of D numbers.
template <class T>
__global__ void StoreKernel(SlotQueries<T> cache, T* to_k, T* to_v, const T* k, const T* v,
                            const std::int32_t* positions, const std::int32_t* lengths, std::int64_t heads) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp, D = cache.D;
  if (i >= heads) return;
  const std::int64_t n = i / cache.G, g = i % cache.G;
  const int position = positions[n];
  if (position < 0 || cache.slots[n] < 0) return;
  if (lengths && !CacheHolds(position / kKeyTile, lengths[n], cache.sink_tiles, cache.ring)) return;
  const std::int64_t tile = cache.TileOf(n, g, position / kKeyTile);
  const std::int64_t row = position % kKeyTile * D;
  for (std::int64_t c = threadIdx.x % kWarp; c < D; c += kWarp) {
    to_k[tile * cache.k_tile + row + c] = k[i * D + c];
    to_v[tile * cache.v_tile + row + c] = v[i * D + c];
  }
}

}  // namespace

template <>
void AttentionKernels<Cuda>::Forward(const Context& ctx, const Tensor& out, const Tensor& lse,
                                     const AttentionInputs& in) {
  const std::int64_t D = in.q.dim(2);
  if (OnTensorCores(in.q.dtype(), D)) return (OnWarpgroups(ctx, D) ? WarpgroupForward : MmaForward)(ctx, out, lse, in);
  Dispatch(in.q.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const int warps = WarpsFor<Sum>(D, 1);
    const DocumentQueries<T> source = QueriesOfDocuments<T>(in);
    const Sum scale = Sum(1) / std::sqrt(static_cast<Sum>(D));
    Launch(ctx, {source.Blocks(in.q.dim(0), warps * kRows), warps * kWarp, SumsBytes<Sum>(warps, D, 1)},
           ForwardKernel<T>, source, out, lse, in.q, in.q_pos, in.prompts, in.sink_logits, in.spec, scale);
  });
}

template <>
void AttentionKernels<Cuda>::CachedForward(const Context& ctx, const Tensor& out, const Tensor& lse,
                                           const CachedAttentionInputs& in) {
  if (OnTensorCores(in.q.dtype(), in.q.dim(2))) return MmaCachedForward(ctx, out, lse, in);
  ScalarCachedForward(ctx, out, lse, in);
}

template <>
void AttentionKernels<Cuda>::StoreKeys(const Context& ctx, const KeyCache& cache, const Tensor& k, const Tensor& v,
                                       const Tensor& positions, const Tensor& slots, const Tensor& lengths) {
  const std::int64_t heads = k.dim(0) * k.dim(1);
  Dispatch(k.dtype(), [&]<class T>() {
    Launch(ctx, {Blocks(heads, kWarps)}, StoreKernel<T>, QueriesOfSlots<T>(k, cache, slots), cache.k(), cache.v(), k, v,
           positions, lengths, heads);
  });
}

}  // namespace swarr
