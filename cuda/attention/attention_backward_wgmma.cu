// SPDX-License-Identifier: Apache-2.0
// Attention's backward for bf16 by Hopper's warpgroups (cuda/wgmma.h), over documents, for head dims 64 and 128. The
// plain twin is attention_mma_backward.cu: the same two kernels with the same sums in the same order, one warp at a
// time.
//
// Two groups of 128 threads take 64 rows each, and a third feeds them (attention_backward_feed.h):
//
//           rows x, y         tiles u, w                  p = exp(scale x u^T - lse),  ds = scale p (y w^T - delta)
//   dq      queries, dout     keys, values                dq += ds u
//   dk, dv  keys, values      queries, dout of the        dv += p w,  dk += ds u
//                             key head's query heads
//
// A group passes over tiles that none of its rows meets. It looks ahead if it has the registers: it begins the products
// of the next tile's p and ds, then those of this tile's gradients. While the latter run, it computes the next p and
// ds. docs/cuda.md says why these shapes, and what was tried.
#include <algorithm>

#include "cuda/attention/attention_backward_steps.h"
#include "cuda/rope.h"

namespace swarr {
namespace {

// Turns a group's rows of gradients of queries or keys back: they are those of what came before rotary embedding.
template <int D>
__device__ void TurnBack(const Problem& p, float (&sums)[D / 2], std::int64_t first_row, int valid) {
  constexpr int kBlocks = D / 16;  // of 8 numbers in half a head
  KeepHere(sums);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = RowInGroup() + 8 * i;
    if (row >= valid) return;
    const float* angles = p.rope_table + std::int64_t{p.q_pos[first_row + row]} * D + Lane() % 4 * 2;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      const float2 cosine = *reinterpret_cast<const float2*>(angles + 8 * j),
                   sine = *reinterpret_cast<const float2*>(angles + D / 2 + 8 * j);
      float *a = sums + 4 * j + 2 * i, *b = a + 4 * kBlocks;
      for (int e = 0; e < 2; ++e) a[e] += 0.0f, b[e] += 0.0f;  // as AddRows
      TurnRounded(a, b, cosine, {-sine.x, -sine.y});
    }
  }
}

// Adds a group's rows of sums to a gradient, a pair of elements at a time. `first`: index of the first row's first
// element; `stride`: from row to row.
template <int D>
__device__ void AddRows(const Gradient<BFloat16>& to, float (&sums)[D / 2], std::int64_t first, std::int64_t stride,
                        int valid) {
  KeepHere(sums);
  if (!to.data) return;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = RowInGroup() + 8 * i;
    if (row >= valid) return;
    auto* at = reinterpret_cast<unsigned*>(to.data + first + row * stride) + Lane() % 4;
    unsigned before[D / 8] = {};
    if (!to.fresh) {
#pragma unroll
      for (int j = 0; j < D / 8; ++j) before[j] = at[4 * j];
    }
#pragma unroll
    for (int j = 0; j < D / 8; ++j) {
      const float low = __uint_as_float(before[j] << 16) + sums[4 * j + 2 * i],
                  high = __uint_as_float(before[j] & 0xffff0000u) + sums[4 * j + 2 * i + 1];
      at[4 * j] = RoundPair(low + 0.0f, high + 0.0f);  // + 0: as in Gradient::Add
    }
  }
}

// A group's way through the tiles of a plan, `heads` times; the first of them has number `tile`, which counts on.
template <int D, bool kAhead, class Step>
__device__ void MultiplyTiles(SharedState<D>& s, const Plan& plan, unsigned number, int heads, unsigned& tile,
                              Step& step) {
  const int group = GroupOfThread(), count = plan.tiles.count();
  const TilePair<D>& rows = s.rows[number % kPlans<D>][group];
  const TileList tiles = plan.tiles, seen = plan.seen[group];
  bool pending = false;  // the gradients of tile `last` have not begun
  unsigned last = 0;
  const auto finish = [&] {
    if (!pending) return;
    FenceSums();
    step.Add(s.tiles[last % kStages<D>]);
    CommitProducts();
    WaitProducts<0>();
    s.ReleaseTile(last);
    pending = false;
  };
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < count; ++i, ++tile) {
      s.WaitTile(tile);
      if (!seen.Holds(tiles[i])) {
        finish();  // or the ring might wait for its stage, and this group for the ring
        s.ReleaseTile(tile);
        continue;
      }
      const TilePair<D>& pair = s.tiles[tile % kStages<D>];
      const QueryNumbers& numbers = s.tile_numbers[tile % kStages<D>];
      // Both ways are written out: with a choice in the midst, the compiler lets products run one by one.
      if (kAhead && pending) {
        step.Score(rows, pair);
        step.Add(s.tiles[last % kStages<D>]);
        CommitProducts();
        WaitProducts<2>();
        step.Weigh(numbers);
        WaitProducts<1>();
      } else {
        step.Score(rows, pair);
        WaitProducts<1>();
        step.Weigh(numbers);
        WaitProducts<0>();
      }
      step.Differentiate(tiles[i], numbers);
      WaitProducts<0>();
      if (kAhead && pending) s.ReleaseTile(last);
      step.Round();
      last = tile, pending = true;
      if (!kAhead) finish();
    }
  }
  s.ReleasePlan(number);
  finish();
}

// For one work. `first` and `second` are dq and nothing, or dk and dv.
template <int D, Rows rows>
__device__ void AddGradients(SharedState<D>& s, const Problem& p, const Plan& plan, unsigned number, unsigned& tile,
                             const Gradient<BFloat16>& first, const Gradient<BFloat16>& second) {
  const int group = GroupOfThread(), begin = plan.block.begin + group * kPanel, valid = plan.block.end - begin;
  const std::int64_t row = plan.block.first_row + begin, heads = rows == Rows::kQueries ? p.documents.H : p.documents.G,
                     at = (row * heads + plan.head) * D;
  if constexpr (rows == Rows::kQueries) {
    QueryStep<D> step(p, plan, s.row_numbers[number % kPlans<D>][group]);
    MultiplyTiles<D, true>(s, plan, number, 1, tile, step);
    if (p.rope_table) TurnBack<D>(p, step.dq, row, valid);
    AddRows<D>(first, step.dq, at, heads * D, valid);
  } else {
    KeyStep<D> step(p, plan, begin);
    MultiplyTiles<D, D == 64>(s, plan, number, p.heads_of_key, tile, step);
    if (p.rope_table) TurnBack<D>(p, step.dk, row, valid);
    AddRows<D>(first, step.dk, at, heads * D, valid);
    AddRows<D>(second, step.dv, at, heads * D, valid);
  }
}

// Grid: as many blocks as run at once.
template <int D, Rows rows>
__global__ __launch_bounds__(kBlockThreads, 1) void GradientKernel(const __grid_constant__ Problem problem,
                                                                   WorkOrder order, Gradient<BFloat16> first,
                                                                   Gradient<BFloat16> second) {
  extern __shared__ char shared[];
  auto& s = *reinterpret_cast<SharedState<D>*>(shared + (1024 - SharedAddress(shared) % 1024) % 1024);
  if (threadIdx.x == 0) s.InitBarriers();
  __syncthreads();
  WaitForPrevious();
  // A thread begins with 168 registers, and 40 + 2 * 232 is three times that. For one more, groups would wait forever.
  if (GroupOfThread() == kGroups) {
    ShrinkRegisters<40>();
    if (threadIdx.x % kGroup / kWarp == 0) Feed<D, rows>(s, problem, order);
    return;
  }
  GrowRegisters<232>();
  unsigned tile = 0;
  for (unsigned number = 0;; ++number) {
    const Plan& plan = s.WaitPlan(number);
    if (plan.none) return;
    AddGradients<D, rows>(s, problem, plan, number, tile, first, second);
  }
}

template <int D, Rows rows>
void LaunchGradient(const Context& ctx, const Problem& problem, const WorkOrder& order, const Tensor& first,
                    const Tensor& second) {
  const unsigned blocks = std::min(order.count(), static_cast<unsigned>(ctx.stream->multiprocessors));
  Launch(ctx, {blocks, kBlockThreads, sizeof(SharedState<D>) + 1024, /*early=*/true}, GradientKernel<D, rows>, problem,
         order, Gradient<BFloat16>(first), Gradient<BFloat16>(second));
}

template <int D>
void LaunchGradients(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& lse,
                     const AttentionInputs& in, const QueryScratch<float>& scratch) {
  const auto documents = QueriesOfDocuments<BFloat16>(in);
  const std::int64_t N = in.q.dim(0);
  const Matrix q = MatrixOf(in.q), grad = MatrixOf(dout), k = MatrixOf(in.k), v = MatrixOf(in.v);
  Problem problem{q,
                  grad,
                  k,
                  v,
                  documents,
                  lse.data<float>(),
                  scratch,
                  in.q_pos.data<std::int32_t>(),
                  ArgumentOf<const std::int32_t*>(in.prompts),
                  ArgumentOf<const float*>(gradients.rope_table),
                  in.spec,
                  ScoreGradientOf(D),
                  static_cast<int>(documents.H / documents.G)};
  if (!gradients.dq.empty()) {
    LaunchGradient<D, Rows::kQueries>(ctx, problem, OrderOfQueries(documents, in.spec, N, kBlockRows), gradients.dq,
                                      {});
  }
  if (gradients.dk.empty() && gradients.dv.empty()) return;
  problem.x = k, problem.y = v, problem.u = q, problem.w = grad;
  LaunchGradient<D, Rows::kKeys>(ctx, problem, OrderOfKeys(documents, in.spec, N, kBlockRows), gradients.dk,
                                 gradients.dv);
}

}  // namespace

void WarpgroupBackward(const Context& ctx, const AttentionGradients& gradients, const Tensor& dout, const Tensor& lse,
                       const AttentionInputs& in, const QueryScratch<float>& scratch) {
  if (in.q.dim(0) == 0) return;
  if (in.q.dim(2) == 64) return LaunchGradients<64>(ctx, gradients, dout, lse, in, scratch);
  LaunchGradients<128>(ctx, gradients, dout, lse, in, scratch);
}

}  // namespace swarr
