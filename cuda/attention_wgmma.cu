// SPDX-License-Identifier: Apache-2.0
// Attention's forward for bf16 by Hopper's warpgroups (cuda/wgmma.h), over documents, for head dims 64 and 128. The
// plain twin is attention_mma.cu: the same bits, one warp at a time.
//
// A block lives on from work to work: some 64 queries a group, of one head. Its last warp feeds. It decides which work
// is next and which tiles of keys it needs (a Plan), and has the copy engine bring queries, and keys and values in
// turns through rings of stages in shared memory. It runs ahead, so that a group finds its next work there. Each other
// group of 128 threads takes 64 queries. Scores of the next tile and weighted values of the last are multiplied while
// the group takes the softmax; a group passes over tiles that none of its queries sees.
//
//   ready[plan]          the plan stands and its queries have arrived
//   done[plan]           all groups are done with it
//   full[stage][what]    the stage's keys, or values, have arrived
//   empty[stage][what]   all groups are done with them
#include <algorithm>

#include "cuda/attention_softmax.h"
#include "cuda/wgmma.h"

namespace swarr {
namespace {

static_assert(kSoftmaxTile == kPanel);

constexpr int kPlans = 2;
enum Half { kKeys, kValues, kHalves };

// P: head dim. `groups`: of a block, beside the one that feeds. `blocks`: on a multiprocessor.
template <int P, int groups, int stages, bool kept, int registers>
struct Shape {
  static constexpr int kWidth = P, kGroups = groups, kStages = stages, kRegisters = registers;
  static constexpr bool kKept = kept;  // queries stay in registers
  static constexpr int kRows = groups * kPanel, kThreads = (groups + 1) * kGroup, kWarps = groups * kGroup / kWarp;
  static constexpr int kTileBytes = P / kPanel * kPanelBytes, kQueryBytes = groups * kTileBytes;
  static constexpr int kTilesBytes = kPlans * kQueryBytes + stages * kHalves * kTileBytes;
};

// Tiles begin <= i < end of a plan that a group sees, one after another. The first of them is tile `first` of the
// document.
struct Run {
  int begin, end, first;
};

// What all must know of a block of queries.
template <class S>
struct Plan {
  std::int64_t first;  // of the block's rows of [N, H]
  int count;           // of them; 0: there is no more work
  unsigned head;
  int first_key;  // row of the document's first key
  AttentionSpec spec;
  TileList tiles;           // of the softmax, as they come through the rings
  Run runs[S::kGroups][2];  // what each group sees of them: sinks and recent ones
  KeyRange by_all[S::kGroups];
  int positions[S::kRows];
};

// The order in which works are taken: blocks of queries of all heads. Some key heads after the others, as many as the
// second-level cache holds; within them blocks of all documents in turns, each document's from its end, since later
// ones see more keys; then heads.
struct WorkOrder {
  unsigned blocks, documents, heads, heads_together, heads_of_key;

  struct Work {
    unsigned block, head;
  };
  __host__ __device__ unsigned count() const { return blocks * heads; }
  __device__ Work At(unsigned index) const {
    const unsigned first = index / (blocks * heads_together) * heads_together, within = index - first * blocks,
                   width = min(heads_together, heads - first), slot = within / width, each = blocks / documents;
    // Documents of one length have `each` blocks.
    const unsigned block = slot < each * documents ? slot % documents * each + (each - 1 - slot / documents) : slot;
    return {block, first + within % width};
  }
};

template <class S>
struct SharedState {
  std::uint64_t ready[kPlans], done[kPlans], full[S::kStages][kHalves], empty[S::kStages][kHalves];
  Plan<S> plans[kPlans];
};

// Shared memory as one side sees it, feeder or group. Plans and tiles have running numbers over all works of a block.
template <class S>
struct Rings {
  SharedState<S>& state;
  char* memory;

  __device__ char* Queries(unsigned plan) const { return memory + plan % kPlans * S::kQueryBytes; }
  __device__ char* Tile(unsigned tile, Half half) const {
    return memory + kPlans * S::kQueryBytes + (tile % S::kStages * kHalves + half) * S::kTileBytes;
  }
  __device__ const char* WaitTile(unsigned tile, Half half) const {
    WaitBarrier(&state.full[tile % S::kStages][half], tile / S::kStages % 2);
    return Tile(tile, half);
  }
  __device__ void Release(unsigned tile, Half half) const {
    __syncwarp();
    if (Lane() == 0) Arrive(&state.empty[tile % S::kStages][half]);
  }
};

// What the feeder reads.
struct Source {
  CUtensorMap q, k, v;
  DocumentQueries<BFloat16> documents;
  const std::int32_t *q_pos, *prompts;
  AttentionSpec spec;  // of the model
};

// Copies 64 rows of one head, in panels of 64 columns.
template <class S>
__device__ void CopyHead(char* to, const CUtensorMap& matrix, int row, unsigned head, std::uint64_t* barrier) {
#pragma unroll
  for (int panel = 0; panel < S::kWidth / kPanel; ++panel) {
    CopyBox(to + panel * kPanelBytes, matrix, static_cast<int>(head) * S::kWidth + panel * kPanel, row, barrier);
  }
}

// The tiles that a group sees as part of those of the plan.
__device__ inline Run RunOf(KeyRange seen, TileList tiles) {
  const auto [sinks, recent] = tiles.ranges;
  const int begin = seen.begin < sinks.end ? seen.begin : sinks.size() + seen.begin - recent.begin;
  return {begin, begin + seen.size(), seen.begin};
}

// Makes the plan for the rows of a document that `b` has. One warp.
template <class S>
__device__ void MakePlan(Plan<S>& plan, const Source& source, const DocumentBlock& b, unsigned head) {
  constexpr int kEach = kPanel / kWarp;  // rows of a group for each lane
  const int row = b.first_row + b.begin, count = b.end - b.begin;
  int positions[S::kGroups][kEach];
#pragma unroll
  for (int i = 0; i < S::kGroups * kEach; ++i) {
    const int r = i * kWarp + Lane();
    positions[i / kEach][i % kEach] = r < count ? source.q_pos[row + r] : -1;
  }
  const AttentionSpec spec = SpecOfRow(source.spec, source.prompts, row);
  PositionBounds bounds[S::kGroups], all{std::numeric_limits<int>::max(), -1, false};
#pragma unroll
  for (int group = 0; group < S::kGroups; ++group) {
    int least = std::numeric_limits<int>::max(), most = -1;
    bool blind = false;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = group * kPanel + i * kWarp + Lane(), position = positions[group][i];
      plan.positions[r] = position;
      if (position >= 0) least = min(least, position);
      most = max(most, position);
      blind = blind || (position < 0 && r < count);
    }
    bounds[group] = WarpBounds(least, most, blind);
    all = {min(all.least, bounds[group].least), max(all.most, bounds[group].most), false};
  }
  const TileList tiles = SoftmaxTilesOf(all.Tiles(spec));
#pragma unroll
  for (int group = 0; group < S::kGroups; ++group) {
    const auto [sinks, recent] = SoftmaxTilesOf(bounds[group].Tiles(spec)).ranges;
    plan.runs[group][0] = RunOf(sinks, tiles), plan.runs[group][1] = RunOf(recent, tiles);
    plan.by_all[group] = bounds[group].SeenByAll(spec);
  }
  plan.first = std::int64_t{row} * source.documents.H + head, plan.count = count, plan.head = head;
  plan.first_key = b.first_row, plan.spec = spec, plan.tiles = tiles;
}

// Brings keys, or values, of a plan's tiles. `tile`: the number of the next one. One thread.
template <class S, Half half>
__device__ void FeedTiles(const Rings<S>& rings, const Plan<S>& plan, const CUtensorMap& matrix, unsigned key_head,
                          unsigned& tile) {
  const TileList tiles = plan.tiles;
  const int first_key = plan.first_key, count = tiles.count();
  for (int i = 0; i < count; ++i, ++tile) {
    std::uint64_t* full = &rings.state.full[tile % S::kStages][half];
    WaitBarrier(&rings.state.empty[tile % S::kStages][half], tile / S::kStages % 2 ^ 1);
    ArriveAndExpect(full, S::kTileBytes);
    CopyHead<S>(rings.Tile(tile, half), matrix, first_key + tiles[i] * kSoftmaxTile, key_head, full);
  }
}

// Makes plans, and brings their queries and keys. One warp.
template <class S>
__device__ void FeedKeys(const Rings<S>& rings, const Source& source, const WorkOrder& order) {
  SharedState<S>& state = rings.state;
  const auto& documents = source.documents;
  const unsigned works = order.count();
  unsigned number = 0, tile = 0;
  const auto wait_for_plan = [&] { WaitBarrier(&state.done[number % kPlans], number / kPlans % 2 ^ 1); };
  // Works are dealt out forwards and backwards in turns, so that no block has the longest every time.
  for (unsigned round = 0; round * gridDim.x < works; ++round) {
    const unsigned place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x, index = round * gridDim.x + place;
    if (index >= works) continue;
    const WorkOrder::Work work = order.At(index);
    const DocumentBlock b = DocumentBlockOf(documents.first_row, documents.documents, S::kRows, work.block);
    if (b.begin >= b.end) continue;
    wait_for_plan();
    Plan<S>& plan = state.plans[number % kPlans];
    MakePlan(plan, source, b, work.head);
    __syncwarp();
    if (Lane() == 0) {
      std::uint64_t* ready = &state.ready[number % kPlans];
      ArriveAndExpect(ready, S::kQueryBytes);
      for (int group = 0; group < S::kGroups; ++group) {
        CopyHead<S>(rings.Queries(number) + group * S::kTileBytes, source.q, b.first_row + b.begin + group * kPanel,
                    work.head, ready);
      }
      FeedTiles<S, kKeys>(rings, plan, source.k, work.head / order.heads_of_key, tile);
    }
    __syncwarp();
    ++number;
  }
  wait_for_plan();
  if (Lane() == 0) {
    state.plans[number % kPlans].count = 0;
    Arrive(&state.ready[number % kPlans]);
  }
}

// Brings the values. One thread.
template <class S>
__device__ void FeedValues(const Rings<S>& rings, const Source& source, const WorkOrder& order) {
  SharedState<S>& state = rings.state;
  unsigned tile = 0;
  for (unsigned number = 0;; ++number) {
    const Plan<S>& plan = state.plans[number % kPlans];
    WaitBarrier(&state.ready[number % kPlans], number / kPlans % 2);
    if (plan.count == 0) return;
    FeedTiles<S, kValues>(rings, plan, source.v, plan.head / order.heads_of_key, tile);
    Arrive(&state.done[number % kPlans]);
  }
}

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
__device__ void BeginScores(float (&scores)[kSoftmaxTile / 2], const QueriesOfGroup<S>& queries, const char* keys) {
  const std::uint64_t b = Describe(keys);
  FenceSums();
#pragma unroll
  for (int k = 0; k < S::kWidth / 16; ++k) {
    const int next = k * 16 / kPanel * (kPanelBytes / 16) + k * 16 % kPanel / 16 * kNextSlice<false>;
    if constexpr (S::kKept) {
      MultiplyAccumulateGroup<false>(scores, queries.kept[k], Advance(b, next), k > 0);
    } else {
      MultiplyAccumulateGroup<false, false>(scores, Advance(queries.place, next), Advance(b, next), k > 0);
    }
  }
  CommitProducts();
}

// Begins o += weights values, ascending in the tile's keys.
template <int kSums>
__device__ void BeginValues(float (&o)[kSums], const unsigned (&weights)[kSoftmaxTile / 16][4], const char* values) {
  const std::uint64_t b = Describe(values);
  FenceSums();
#pragma unroll
  for (int k = 0; k < kSoftmaxTile / 16; ++k) {
    MultiplyAccumulateGroup<true>(o, weights[k], Advance(b, k * kNextSlice<true>), 1);
  }
  CommitProducts();
}

// Attention of a group's queries, over the tiles of the plan; the first of them has number `tile`.
template <class S>
__device__ void Attend(const Rings<S>& rings, const Plan<S>& plan, unsigned tile, const QueriesOfGroup<S>& queries,
                       float scale2, RowSoftmax& softmax, float (&o)[S::kWidth / 2]) {
  const int group = static_cast<int>(threadIdx.x) / kGroup,
            row = static_cast<int>(threadIdx.x) / kWarp * 16 + Lane() / 4;
  const KeyRange all = plan.by_all[group];
  float scores[kSoftmaxTile / 2], rescale[2];
  unsigned weights[kSoftmaxTile / 16][4];
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
#pragma unroll
    for (int k = 0; k < kSoftmaxTile / 16; ++k) {
#pragma unroll
      for (int j = 0; j < 4; ++j) weights[k][j] = RoundPair(scores[8 * k + 2 * j], scores[8 * k + 2 * j + 1]);
    }
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
  const Rings<S> rings{state, memory};
  const int group = static_cast<int>(threadIdx.x) / kGroup;
  if (group == S::kGroups) {
    ShrinkRegisters<S::kGroups == 2 ? 40 : 32>();
    const int warp = static_cast<int>(threadIdx.x) % kGroup / kWarp;
    if (warp == 0) FeedKeys(rings, source, order);
    if (warp == 1 && Lane() == 0) FeedValues(rings, source, order);
    return;
  }
  GrowRegisters<S::kRegisters>();
  const std::int64_t H = order.heads;
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
  constexpr std::int64_t kCacheBytes = 24 << 20;  // half of the second-level cache, for keys and values
  const auto documents = QueriesOfDocuments<BFloat16>(in);
  const std::int64_t N = in.q.dim(0), H = documents.H, G = documents.G, D = documents.D,
                     together = std::clamp<std::int64_t>(kCacheBytes / (N * D * 4), 1, G);
  const WorkOrder order{static_cast<unsigned>(DocumentBlocks(N, documents.documents, S::kRows)),
                        static_cast<unsigned>(documents.documents), static_cast<unsigned>(H),
                        static_cast<unsigned>(together * (H / G)), static_cast<unsigned>(H / G)};
  const unsigned blocks = std::min(order.count(), static_cast<unsigned>(ctx.stream->multiprocessors));
  const Source source{DescribeMatrix(in.q.data<BFloat16>(), N, H * D, H * D, kPanel),
                      DescribeMatrix(documents.k, N, G * D, G * D, kPanel),
                      DescribeMatrix(documents.v, N, G * D, G * D, kPanel),
                      documents,
                      in.q_pos.data<std::int32_t>(),
                      in.prompts.empty() ? nullptr : in.prompts.data<std::int32_t>(),
                      in.spec};
  Launch(ctx, {blocks, S::kThreads, S::kTilesBytes + sizeof(SharedState<S>) + 1024}, ForwardKernel<S>, source, order,
         out, lse, in.sink_logits, ScoreScale2(D));
}

}  // namespace

void WarpgroupForward(const Context& ctx, const Tensor& out, const Tensor& lse, const AttentionInputs& in) {
  if (in.q.dim(0) == 0) return;
  if (in.q.dim(2) == 64) return LaunchForward<Shape<64, 3, 6, true, 160>>(ctx, out, lse, in);
  LaunchForward<Shape<128, 3, 3, false, 160>>(ctx, out, lse, in);
}

}  // namespace swarr
