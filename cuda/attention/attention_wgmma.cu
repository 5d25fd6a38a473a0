// SPDX-License-Identifier: Apache-2.0
// Attention's forward for bf16 by Hopper's warpgroups (cuda/wgmma.h), over documents, for head dims 64 and 128. The
// plain twin is attention_mma.cu: the same bits, one warp at a time.
//
// Three groups of 128 threads take 64 queries each, which share the tiles of keys that attention_feed.h brings. A group
// passes over tiles that none of its queries sees. It has the scores of the next tile and the weighted values of the
// last multiplied while it takes the softmax. docs/cuda.md says why these shapes, and what was tried.
#include <algorithm>

#include "cuda/attention/attention_feed.h"

namespace swarr {
namespace {

// The 64 queries of a group as the left operand of products.
template <class S>
struct QueriesOfGroup {
  std::uint64_t place;
  unsigned kept[S::kKept ? S::kWidth / 16 : 1][4];

  __device__ explicit QueriesOfGroup(const char* tile) : place(Describe(tile)) {
    if constexpr (S::kKept) {
      const int row = static_cast<int>(threadIdx.x) % kGroup / kWarp * 16 + Lane() % 16;
#pragma unroll
      for (int k = 0; k < S::kWidth / 16; ++k) {
        const int chunk = 2 * k + Lane() / 16;
        LoadMatrix4(kept[k], tile + chunk / 8 * kPanelBytes + row * kLineBytes + (chunk % 8 ^ row % 8) * 16);
      }
    }
  }
};

// Begins scores = queries keys^T, ascending in the head dim.
template <class S>
__device__ void BeginScores(GroupScores& scores, const QueriesOfGroup<S>& queries, const char* keys) {
  const std::uint64_t b = Describe(keys);
  FenceSums();
  if constexpr (S::kKept) {
#pragma unroll
    for (int k = 0; k < S::kWidth / 16; ++k) {
      MultiplyAccumulateGroup<false>(scores, queries.kept[k], Advance(b, SliceOf(k)), k > 0);
    }
  } else {
    MultiplyByTile<S::kWidth>(scores, queries.place, b);
  }
  CommitProducts();
}

// Begins o += weights values.
template <int kSums>
__device__ void BeginValues(float (&o)[kSums], const GroupWeights& weights, const char* values) {
  FenceSums();
  AddTile(o, weights, values);
  CommitProducts();
}

// Attention of a group's queries, over the tiles of the plan; the first of them has number `tile`.
template <class S>
__device__ void Attend(const Rings<S>& rings, const Plan<S>& plan, unsigned tile, const QueriesOfGroup<S>& queries,
                       float scale2, RowSoftmax& softmax, float (&o)[S::kWidth / 2]) {
  const int group = static_cast<int>(threadIdx.x) / kGroup,
            row = static_cast<int>(threadIdx.x) / kWarp * 16 + Lane() / 4;
  const KeyRange all = plan.by_all[group];
  GroupScores scores;
  GroupWeights weights;
  float rescale[2];
  const auto scores_at = [&](int block) { return scores + 4 * block; };
  const auto weigh = [&](int document_tile) {
    const int first_key = document_tile * kSoftmaxTile;
    if (first_key < all.begin || first_key + kSoftmaxTile > all.end) {
      const int positions[] = {plan.positions[row], plan.positions[row + 8]};
      MaskScores(scores_at, positions, first_key, plan.spec);
    }
    softmax.Weigh(scores_at, scale2, rescale);
  };
  const auto rescale_and_round = [&] {
    RescaleSums<S::kWidth / 8>([&](int block) { return o + 4 * block; }, rescale);
    RoundToWeights(weights, scores);
  };
#pragma unroll
  for (float& sum : o) sum = 0;

  // Tiles that others see. The group holds none while it passes over them: the ring might have no room for the next.
  int i = 0;
  const auto pass_until = [&](int end) {
    for (; i < end; ++i) {
      for (const Half half : {kKeys, kValues}) {
        rings.WaitTile(tile + i, half);
        rings.Release(tile + i, half);
      }
    }
  };
#pragma unroll 1
  for (int r = 0; r < 2; ++r) {
    const Run run = plan.runs[group][r];
    if (run.begin >= run.end) continue;
    pass_until(run.begin);
    const int to_document = run.first - run.begin;
    BeginScores<S>(scores, queries, rings.WaitTile(tile + i, kKeys));
    WaitProducts<0>(scores);
    rings.Release(tile + i, kKeys);
    weigh(i + to_document);
    for (;; ++i) {
      // The softmax of tile i has been taken while the values of tile i - 1 were multiplied.
      KeepHere(scores);
      WaitProducts<0>(o);
      if (i > run.begin) rings.Release(tile + i - 1, kValues);
      rescale_and_round();
      if (i + 1 == run.end) break;
      BeginScores<S>(scores, queries, rings.WaitTile(tile + i + 1, kKeys));
      BeginValues(o, weights, rings.WaitTile(tile + i, kValues));
      WaitProducts<1>(scores);
      rings.Release(tile + i + 1, kKeys);
      weigh(i + 1 + to_document);
    }
    BeginValues(o, weights, rings.WaitTile(tile + i, kValues));
    WaitProducts<0>(o);
    rings.Release(tile + i, kValues);
    ++i;
  }
  pass_until(plan.tiles.count());
}

// Grid: as many blocks as run at once.
template <class S>
__global__ void __launch_bounds__(S::kThreads, 1)
    ForwardKernel(const __grid_constant__ Source source, WorkOrder order, BFloat16* out, float* lse,
                  const BFloat16* sinks, float scale2) {
  extern __shared__ char shared[];
  char* const memory = shared + (1024 - SharedAddress(shared) % 1024) % 1024;
  SharedState<S>& state = *reinterpret_cast<SharedState<S>*>(memory + S::kTilesBytes);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kPlans; ++i) {
      InitBarrier(&state.ready[i], 1);
      InitBarrier(&state.done[i], S::kWarps + 1);
    }
    for (int i = 0; i < S::kStages; ++i) {
      for (const Half half : {kKeys, kValues}) {
        InitBarrier(&state.full[i][half], 1);
        InitBarrier(&state.empty[i][half], S::kWarps);
      }
    }
    ShowBarriers();
  }
  __syncthreads();
  WaitForPrevious();
  const Rings<S> rings{state, memory};
  const int group = static_cast<int>(threadIdx.x) / kGroup;  // GroupOfThread() makes windows slower (docs/log.md)
  if (group == S::kGroups) {
    ShrinkRegisters<32>();
    const int warp = static_cast<int>(threadIdx.x) % kGroup / kWarp;
    if (warp == 0) FeedKeys(rings, source, order);
    if (warp == 1) FeedValues(rings, source);
    return;
  }
  GrowRegisters<S::kRegisters>();
  const std::int64_t H = source.documents.H;
  unsigned tile = 0;
  for (unsigned number = 0;; ++number) {
    const Plan<S>& plan = state.plans[number % kPlans];
    WaitBarrier(&state.ready[number % kPlans], number / kPlans % 2);
    if (plan.count == 0) return;
    const QueriesOfGroup<S> queries(rings.Queries(number) + group * S::kTileBytes);
    RowSoftmax softmax;
    const float sink = sinks ? float(sinks[plan.head]) : kNothing;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (sinks) softmax.BeginWith(i, sink);
    }
    float o[S::kWidth / 2];
    Attend<S>(rings, plan, tile, queries, scale2, softmax, o);
    tile += plan.tiles.count();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = static_cast<int>(threadIdx.x) / kWarp * 16 + 8 * i + Lane() / 4;
      StoreRow<S::kWidth / 8>(out, lse, r < plan.count ? plan.first + r * H : -1, S::kWidth, i, softmax, sink,
                              [&](int block) { return o + 4 * block; });
    }
    __syncwarp();
    if (Lane() == 0) Arrive(&state.done[number % kPlans]);
  }
}

template <class S>
void LaunchForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  const auto documents = QueriesOfDocuments<BFloat16>(in);
  const std::int64_t N = in.q.dim(0), H = documents.H, G = documents.G, D = documents.D;
  const WorkOrder order = OrderOfQueries(documents, in.spec, N, S::kRows);
  const unsigned blocks = std::min(order.count(), static_cast<unsigned>(ctx.stream->multiprocessors));
  const Source source{DescribeMatrix(in.q.data<BFloat16>(), N, H * D, H * D, kPanel),
                      DescribeMatrix(documents.k, N, G * D, G * D, kPanel),
                      MatrixOf(in.v),
                      documents,
                      in.q_pos.data<std::int32_t>(),
                      in.prompts.empty() ? nullptr : in.prompts.data<std::int32_t>(),
                      in.spec,
                      static_cast<unsigned>(H / G)};
  Launch(ctx, {blocks, S::kThreads, S::kTilesBytes + sizeof(SharedState<S>) + 1024, /*early=*/true}, ForwardKernel<S>,
         source, order, out, lse, in.sink_logits, ScoreScale2(D));
}

}  // namespace

void WarpgroupForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  if (in.q.dim(0) == 0) return;
  if (in.q.dim(2) == 64) return LaunchForward<Shape<64, 3, 6, true, 160>>(ctx, out, lse, in);
  LaunchForward<Shape<128, 3, 3, false, 160>>(ctx, out, lse, in);
}

}  // namespace swarr
