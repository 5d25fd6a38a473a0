// SPDX-License-Identifier: Apache-2.0
// Twin of the backward in src/attn/kernels/attention_kernel.cc: for f64, f32, and for bf16 if the head dim doesn't suit
// the tensor cores (attention_mma_backward.cu, attention_backward_wgmma.cu). For dq the rows of attention_rows.h are
// queries and the tiles keys; for dk and dv it is the other way round. Launch: one block for warps * kRows queries of
// one head, or keys of one key head.
#include <algorithm>
#include <bit>
#include <cmath>

#include "attn/kernels/attention_kernels.h"
#include "cuda/attention/attention_rows.h"
#include "cuda/pack.h"
#include "cuda/sums.h"
#include "tensor/kernels/math.h"

namespace swarr {
namespace {

// The weight of a score and the score's gradient: p = exp(scale q.k - lse), ds = scale p (dout.v - delta). Both are 0
// if the query doesn't see the key.
template <class Sum>
struct ScoreGradient {
  Sum p, ds;
  __device__ ScoreGradient(bool visible, Sum dot, Sum dout_v, Sum lse, Sum delta, Sum scale)
      : p(visible ? Exp(scale * dot - lse) : Sum(0)), ds(visible ? scale * p * (dout_v - delta) : Sum(0)) {}
};

template <class T>
__global__ void QueryGradientKernel(DocumentQueries<T> source, Gradient<T> dq, const T* dout, const Accumulator<T>* lse,
                                    const Accumulator<T>* delta, const T* q, const std::int32_t* q_pos,
                                    const std::int32_t* prompts, AttentionSpec of_model, Accumulator<T> scale) {
  using Sum = Accumulator<T>;
  __shared__ Chunk<Sum> chunk;
  __shared__ Weights<Sum> weights[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const std::int64_t D = source.D;
  const QueryBlock<T> b = source.Block(gridDim.x - 1 - blockIdx.x, warps * kRows, q_pos);
  if (b.count <= 0) return;
  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first / source.H);
  const WarpRows rows(b, q_pos, source.H);
  const T *x[kRows], *grad[kRows];
  rows.Point(q, D, x);
  rows.Point(dout, D, grad);
  Sum* sums = ZeroSums<Sum>(D, 1);
  constexpr Sum kOnes[kRows] = {1, 1, 1, 1};

  const TileList tiles = BoundsOf(b, 0, b.count, q_pos, source.H).Tiles(spec);
  for (int i = 0; i < tiles.count(); ++i) {
    const int tile = tiles[i];
    const TileRows<T> keys{b.keys.K(tile), b.keys.row, b.keys.Valid(tile)};
    const TileRows<T> values{b.keys.V(tile), b.keys.row, b.keys.Valid(tile)};
    Sum dots[kRows], dout_v[kRows];
    Dots(x, keys, D, chunk, dots);
    Dots(grad, values, D, chunk, dout_v);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool visible = Visible(rows.position[r], tile * kKeyTile + lane, spec);
      const ScoreGradient<Sum> g(visible, dots[r], dout_v[r], lse[rows.row[r]], delta[rows.row[r]], scale);
      dots[r] = Sum(static_cast<T>(g.ds));
    }
    AddWeighted(dots, kOnes, keys, D, weights[warp], sums);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows.count) break;
    for (std::int64_t c = lane; c < D; c += kWarp) dq.Add(rows.row[r] * D + c, sums[r * D + c]);
  }
}

// A warp takes kRows keys of one key head. It goes through their queries head by head, ascending.
template <class T>
__global__ void KeyGradientKernel(DocumentQueries<T> source, Gradient<T> dk, Gradient<T> dv, const T* dout,
                                  const Accumulator<T>* lse, QueryScratch<Accumulator<T>> scratch, const T* q,
                                  const std::int32_t* q_pos, const std::int32_t* prompts, AttentionSpec of_model,
                                  Accumulator<T> scale) {
  using Sum = Accumulator<T>;
  __shared__ Chunk<Sum> chunk;
  __shared__ Weights<Sum> weights[kWarps];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const std::int64_t D = source.D, H = source.H, G = source.G, group = H / G, g = blockIdx.x % G;
  const DocumentBlock b = DocumentBlockOf(source.first_row, source.documents, warps * kRows, blockIdx.x / G);
  if (b.begin >= b.end) return;
  const AttentionSpec spec = SpecOfRow(of_model, prompts, b.first_row);
  const int first_key = b.begin + warp * kRows, count = max(0, min(kRows, b.end - first_key));
  const T *x[kRows], *y[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t at = ((b.first_row + (r < count ? first_key + r : b.begin)) * G + g) * D;
    x[r] = source.k + at, y[r] = source.v + at;
  }
  Sum *dk_sums = ZeroSums<Sum>(D, 2), *dv_sums = dk_sums + kRows * D;
  constexpr Sum kOnes[kRows] = {1, 1, 1, 1};

  const KeyRange tiles = QueryTilesOf(b.begin, b.end, b.length, scratch.irregular[b.document] == 0, spec);
  for (std::int64_t h = g * group; h < (g + 1) * group; ++h) {
    for (int tile = tiles.begin; tile < tiles.end; ++tile) {
      const std::int64_t n = b.first_row + tile * kKeyTile;
      const int valid = min(kKeyTile, b.length - tile * kKeyTile);
      const std::int64_t query = (n + (lane < valid ? lane : 0)) * H + h;
      const int position = lane < valid ? q_pos[n + lane] : -1;
      const TileRows<T> queries{q + (n * H + h) * D, H * D, valid}, grads{dout + (n * H + h) * D, H * D, valid};
      Sum dots[kRows], dout_v[kRows];
      Dots(x, queries, D, chunk, dots);
      Dots(y, grads, D, chunk, dout_v);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const ScoreGradient<Sum> score(Visible(position, first_key + r, spec), dots[r], dout_v[r], lse[query],
                                       scratch.delta[query], scale);
        dots[r] = Sum(static_cast<T>(score.ds));
        dout_v[r] = Sum(static_cast<T>(score.p));
      }
      AddWeighted(dout_v, kOnes, grads, D, weights[warp], dv_sums);
      AddWeighted(dots, kOnes, queries, D, weights[warp], dk_sums);
    }
  }
  for (int r = 0; r < count; ++r) {
    const std::int64_t at = ((b.first_row + first_key + r) * G + g) * D;
    for (std::int64_t c = lane; c < D; c += kWarp) {
      dk.Add(at + c, dk_sums[r * D + c]);
      dv.Add(at + c, dv_sums[r * D + c]);
    }
  }
}

// delta = dout . out. `lanes` threads, a power of two, take one query and head, in packs. Flags are cleared, for the
// kernel below.
template <bool whole, class T>
__global__ void DeltaKernel(std::int64_t rows, std::int64_t D, int lanes, QueryScratch<Accumulator<T>> to,
                            std::int64_t documents, const T* dout, const T* out) {
  using Sum = Accumulator<T>;
  constexpr std::bool_constant<whole> aligned;
  constexpr int k = kPack<T>;
  const std::int64_t n = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  WaitForPrevious();
  if (n < documents && lane == 0) to.irregular[n] = 0;
  Sum sum = 0;
  for (std::int64_t c = lane * k; n < rows && c < D; c += lanes * k) {
    const auto x = LoadPack<k>(dout + n * D, c, D, aligned), y = LoadPack<k>(out + n * D, c, D, aligned);
#pragma unroll
    for (int j = 0; j < k; ++j) sum = fma(Sum(x.at[j]), Sum(y.at[j]), sum);
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (n < rows && lane == 0) to.delta[n] = sum;
}

// A query's part of the gradient of a head's learned sink.
template <class T>
struct SinkTerm {
  const T* sinks;
  const Accumulator<T>*lse, *delta;
  std::int64_t H;
  __device__ Accumulator<T> operator()(std::int64_t n, std::int64_t h) const {
    return -(Exp(Accumulator<T>(sinks[h]) - lse[n * H + h]) * delta[n * H + h]);
  }
};

// A thread takes one query. All threads that write to a flag write the same.
__global__ void IrregularKernel(std::int64_t N, std::int64_t documents, std::int32_t* irregular,
                                const std::int32_t* q_pos, const std::int32_t* first_row) {
  const std::int64_t n = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  WaitForPrevious();
  if (n >= N || q_pos[n] < 0) return;
  const std::int64_t d = LastAtMost(documents, n, [&](std::int64_t i) { return std::int64_t{first_row[i]}; });
  if (q_pos[n] != n - first_row[d]) irregular[d] = 1;
}

template <class T>
QueryScratch<Accumulator<T>> PrepareBackward(const Context& ctx, const Tensor& dout, const Tensor& out,
                                             const Tensor& q_pos, const Tensor& documents) {
  using Sum = Accumulator<T>;
  const std::int64_t N = out.dim(0), H = out.dim(1), D = out.dim(2), docs = documents.dim(0) - 1;
  const QueryScratch<Sum> scratch{ctx.arena->NewArray<Sum>(N * H), ctx.arena->NewArray<std::int32_t>(docs)};
  const auto packs = static_cast<unsigned>(Blocks(D, kPack<T>));
  const int lanes = static_cast<int>(std::min(std::bit_ceil(packs), unsigned{kWarp}));
  WithWhole(RowsAligned<kPack<T>>(D, dout.data<T>(), out.data<T>()), [&]<bool whole>() {
    Launch(ctx, {.blocks = Blocks(std::max(N * H, docs), kThreads / lanes), .early = true}, DeltaKernel<whole, T>,
           N * H, D, lanes, scratch, docs, dout, out);
  });
  Launch(ctx, {.blocks = Blocks(N, kThreads), .early = true}, IrregularKernel, N, docs, scratch.irregular, q_pos,
         documents);
  return scratch;
}

}  // namespace

bool AttentionTurnsBack(const Context& ctx, const Tensor& q) {
  return ctx.stream && OnTensorCores(q.dtype(), q.dim(2)) && OnWarpgroups(ctx, q.dim(2));
}

// As on the processor, with p_j = exp(scale q.k_j - lse) and delta = dout . out:
//   dv_j += p_j dout;   ds_j = scale p_j (dout . v_j - delta);   dq += ds_j k_j;   dk_j += ds_j q.
// A learned sink is in lse; its gradient is a sum over queries in the order of cuda/sums.h. dq has one kernel, dk and
// dv have another. Both compute p and ds, so that every sum belongs to one block.
template <>
void AttentionKernels<Cuda>::Backward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout,
                                      const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  const std::int64_t N = in.q.dim(0), D = in.q.dim(2);
  const Tensor &dq = gradients.dq, &dk = gradients.dk, &dv = gradients.dv, &q_pos = in.q_pos;
  ArenaScope scope(*ctx.arena);
  Dispatch(in.q.dtype(), [&]<class T>() {
    using Sum = Accumulator<T>;
    const QueryScratch<Sum> scratch = PrepareBackward<T>(ctx, dout, out, q_pos, in.documents);
    if (const Tensor& to = gradients.dsink_logits; !to.empty()) {
      const std::int64_t H = in.q.dim(1);
      AddColumnSums(ctx, to.data<Sum>(), N, H,
                    SinkTerm<T>{in.sink_logits.data<T>(), lse.data<Sum>(), scratch.delta, H});
    }
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (OnTensorCores(in.q.dtype(), D)) {
        return (OnWarpgroups(ctx, D) ? WarpgroupBackward : MmaBackward)(ctx, gradients, dout, lse, in, scratch);
      }
    }
    const DocumentQueries<T> source = QueriesOfDocuments<T>(in);
    const Sum scale = Sum(1) / std::sqrt(static_cast<Sum>(D));
    if (!dq.empty()) {
      const int warps = WarpsFor<Sum>(D, 1);
      const LaunchShape shape{source.Blocks(N, warps * kRows), warps * kWarp, SumsBytes<Sum>(warps, D, 1)};
      Launch(ctx, shape, QueryGradientKernel<T>, source, Gradient<T>(dq), dout, lse, scratch.delta, in.q, q_pos,
             in.prompts, in.spec, scale);
    }
    if (dk.empty() && dv.empty()) return;
    const int warps = WarpsFor<Sum>(D, 2);
    const LaunchShape shape{DocumentBlocks(N, source.documents, warps * kRows) * source.G, warps * kWarp,
                            SumsBytes<Sum>(warps, D, 2)};
    Launch(ctx, shape, KeyGradientKernel<T>, source, Gradient<T>(dk), Gradient<T>(dv), dout, lse, scratch, in.q, q_pos,
           in.prompts, in.spec, scale);
  });
}

}  // namespace swarr
