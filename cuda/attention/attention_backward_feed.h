// SPDX-License-Identifier: Apache-2.0
// How the warpgroups of attention's backward are fed (attention_backward_wgmma.cu): which tiles a block of rows meets,
// and how these come to shared memory.
//
// A work is 128 rows, 64 for each of the two groups that multiply: x with y. They meet tiles of 64 other rows, u with
// w. A warp of a third group plans the work, and has the copy engine bring its rows and then its tiles. It runs ahead
// as far as there is room, into the next works too.
//
//   ready[plan]    the plan stands and its rows have arrived
//   done[plan]     both groups are done with it
//   full[stage]    the stage's tiles have arrived
//   empty[stage]   both groups are done with them
#pragma once

#include "cuda/attention/attention_groups.h"

namespace swarr {
namespace {

// The two kernels. For dq, rows are queries with the gradients of their outputs, and tiles are keys with their values.
// For dk and dv it is the other way round.
enum class Rows { kQueries, kKeys };

constexpr int kGroups = 2;  // that multiply
constexpr int kBlockRows = kGroups * kPanel;
constexpr int kBlockThreads = (kGroups + 1) * kGroup;
constexpr int kGroupWarps = kGroup / kWarp;

// What shared memory has room for.
template <int D>
constexpr int kPlans = D == 64 ? 2 : 1;
template <int D>
constexpr int kStages = D == 64 ? 6 : 4;

// 64 rows that belong together: x and y, or u and w.
template <int D>
struct TilePair {
  char first[D / kPanel * kPanelBytes], second[D / kPanel * kPanelBytes];
};

// What goes with 64 queries, beside their rows.
struct QueryNumbers {
  float lse2[kPanel], delta[kPanel];  // lse / ln 2, scale delta
  int position[kPanel];               // -1: there is no such query
  KeyRange by_all;                    // recent keys that all of them see
};

struct Plan {
  DocumentBlock block;
  unsigned head;
  AttentionSpec spec;
  TileList tiles;          // of 64 rows; those of keys come once for each query head
  TileList seen[kGroups];  // what each group needs of them
  bool none;               // there is no more work
};

// What a block of threads shares. Panels are at multiples of 1024 bytes. Numbers stand with the rows or the tiles,
// whichever are queries. Plans and tiles have running numbers over all works of a block.
template <int D>
struct SharedState {
  TilePair<D> rows[kPlans<D>][kGroups], tiles[kStages<D>];
  QueryNumbers row_numbers[kPlans<D>][kGroups], tile_numbers[kStages<D>];
  Plan plans[kPlans<D>];
  std::uint64_t ready[kPlans<D>], done[kPlans<D>], full[kStages<D>], empty[kStages<D>];

  __device__ void InitBarriers() {
    for (int i = 0; i < kPlans<D>; ++i) {
      InitBarrier(&ready[i], 1);
      InitBarrier(&done[i], kGroups * kGroupWarps);
    }
    for (int i = 0; i < kStages<D>; ++i) {
      InitBarrier(&full[i], 1);
      InitBarrier(&empty[i], kGroups * kGroupWarps);
    }
    ShowBarriers();
  }
  __device__ const Plan& WaitPlan(unsigned number) {
    WaitBarrier(&ready[number % kPlans<D>], number / kPlans<D> % 2);
    return plans[number % kPlans<D>];
  }
  __device__ void WaitTile(unsigned tile) { WaitBarrier(&full[tile % kStages<D>], tile / kStages<D> % 2); }
  __device__ void ReleasePlan(unsigned number) { ArriveAsWarp(&done[number % kPlans<D>]); }
  __device__ void ReleaseTile(unsigned tile) { ArriveAsWarp(&empty[tile % kStages<D>]); }

 private:
  static __device__ void ArriveAsWarp(std::uint64_t* barrier) {
    __syncwarp();
    if (Lane() == 0) Arrive(barrier);
  }
};

struct Problem {
  Matrix x, y, u, w;
  DocumentQueries<BFloat16> documents;
  const float* lse;
  QueryScratch<float> scratch;
  const std::int32_t *q_pos, *prompts;
  const float* rope_table;  // dq and dk are turned back by it; null: they are not
  AttentionSpec spec;       // of the model
  ScoreGradient gradient;
  int heads_of_key;
};

// The rows of a document that `b` has, as queries. A whole warp calls.
__device__ inline Plan PlanForQueries(const Problem& p, const DocumentBlock& b, unsigned head) {
  Plan plan{.block = b, .head = head, .spec = SpecOfRow(p.spec, p.prompts, b.first_row)};
  const QueryBlock<BFloat16> queries{b.first_row + b.begin, 1, b.end - b.begin, {}};
  PositionBounds all{std::numeric_limits<int>::max(), -1, false};
  for (int group = 0; group < kGroups; ++group) {
    const PositionBounds bounds = BoundsOf(queries, group * kPanel, (group + 1) * kPanel, p.q_pos, 1);
    plan.seen[group] = SoftmaxTilesOf(bounds.Tiles(plan.spec));
    all = {min(all.least, bounds.least), max(all.most, bounds.most), false};
  }
  plan.tiles = SoftmaxTilesOf(all.Tiles(plan.spec));
  return plan;
}

// The same as keys.
__device__ inline Plan PlanForKeys(const Problem& p, const DocumentBlock& b, unsigned head) {
  Plan plan{.block = b, .head = head, .spec = SpecOfRow(p.spec, p.prompts, b.first_row)};
  const bool regular = p.scratch.irregular[b.document] == 0;
  const auto tiles_for = [&](int begin, int end) {
    return SoftmaxTilesOf({{{}, QueryTilesOf(begin, end, b.length, regular, plan.spec)}});
  };
  plan.tiles = tiles_for(b.begin, b.end);
  for (int group = 0; group < kGroups; ++group) {
    const int begin = b.begin + group * kPanel;
    if (begin < b.end) plan.seen[group] = tiles_for(begin, min(begin + kPanel, b.end));
  }
  return plan;
}

// The numbers of 64 queries of a head, of which the first `valid` are there. Each lane has two. A whole warp calls.
class LaneNumbers {
 public:
  __device__ LaneNumbers(const Problem& p, std::int64_t first_row, unsigned head, int valid) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = i * kWarp + Lane();
      const std::int64_t n = first_row + min(r, max(valid, 1) - 1), at = n * p.documents.H + head;
      lse2_[i] = p.lse[at] * kInverseLn2;
      delta_[i] = p.scratch.delta[at] * p.gradient.scale;
      position_[i] = r < valid ? p.q_pos[n] : -1;
    }
  }
  __device__ void Store(QueryNumbers& to, AttentionSpec spec) const {
    int least = std::numeric_limits<int>::max(), most = -1;
    bool blind = false;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = i * kWarp + Lane();
      to.lse2[r] = lse2_[i], to.delta[r] = delta_[i], to.position[r] = position_[i];
      if (position_[i] >= 0) least = min(least, position_[i]);
      most = max(most, position_[i]);
      blind = blind || position_[i] < 0;
    }
    const KeyRange by_all = WarpBounds(least, most, blind).SeenByAll(spec);
    if (Lane() == 0) to.by_all = by_all;
  }

 private:
  static constexpr int kEach = kPanel / kWarp;
  float lse2_[kEach], delta_[kEach];
  int position_[kEach];
};

// One thread.
template <int D>
__device__ void CopyPair(TilePair<D>& to, const Matrix& first, const Matrix& second, int row, unsigned head,
                         std::uint64_t* full) {
  CopyHead<D>(to.first, first.map, row, head, full);
  CopyHead<D>(to.second, second.map, row, head, full);
}

// Brings tile `tile` of a document, the `number`th of all. `head` is a query head or a key head, as the tile's rows
// are.
template <int D, Rows rows>
__device__ void FeedTile(SharedState<D>& s, const Problem& p, const Plan& plan, int tile, unsigned head,
                         unsigned number) {
  const unsigned stage = number % kStages<D>;
  const int row = static_cast<int>(plan.block.first_row) + tile * kPanel, valid = plan.block.length - tile * kPanel;
  TilePair<D>& to = s.tiles[stage];
  const auto wait = [&] { WaitBarrier(&s.empty[stage], number / kStages<D> % 2 ^ 1); };
  if constexpr (rows == Rows::kKeys) {
    const LaneNumbers numbers(p, row, head, valid);  // on their way while it waits
    wait();
    numbers.Store(s.tile_numbers[stage], plan.spec);
  } else {
    wait();
  }
  if (valid < kPanel) {
    CopyFirstRows<D>(to.first, p.u, row, head, valid);
    CopyFirstRows<D>(to.second, p.w, row, head, valid);
    ShowStores();
  }
  __syncwarp();
  if (Lane() != 0) return;
  if (valid < kPanel) return Arrive(&s.full[stage]);
  ArriveAndExpect(&s.full[stage], sizeof(to));
  CopyPair<D>(to, p.u, p.w, row, head, &s.full[stage]);
}

// Brings the rows of a plan, and shows it. Rows do not mix, so those behind the document's end do no harm.
template <int D, Rows rows>
__device__ void FeedRows(SharedState<D>& s, const Problem& p, const Plan& plan, unsigned number) {
  const unsigned slot = number % kPlans<D>;
  const int row = static_cast<int>(plan.block.first_row) + plan.block.begin;
  if constexpr (rows == Rows::kQueries) {
    for (int group = 0; group < kGroups; ++group) {
      const int begin = group * kPanel, valid = plan.block.end - plan.block.begin - begin;
      if (valid > 0) LaneNumbers(p, row + begin, plan.head, valid).Store(s.row_numbers[slot][group], plan.spec);
    }
  }
  if (Lane() == 0) s.plans[slot] = plan;
  __syncwarp();
  if (Lane() != 0) return;
  ArriveAndExpect(&s.ready[slot], sizeof(s.rows[slot]));
  for (int group = 0; group < kGroups; ++group) {
    CopyPair<D>(s.rows[slot][group], p.x, p.y, row + group * kPanel, plan.head, &s.ready[slot]);
  }
}

// Plans this block's works and brings what they need. One warp.
template <int D, Rows rows>
__device__ void Feed(SharedState<D>& s, const Problem& p, const WorkOrder& order) {
  unsigned number = 0, tile = 0;
  const auto wait_for_plan = [&] { WaitBarrier(&s.done[number % kPlans<D>], number / kPlans<D> % 2 ^ 1); };
  TakeWorks(order, p.documents, kBlockRows, [&](const DocumentBlock& b, unsigned head) {
    const Plan plan = rows == Rows::kQueries ? PlanForQueries(p, b, head) : PlanForKeys(p, b, head);
    wait_for_plan();
    FeedRows<D, rows>(s, p, plan, number++);
    const int heads = rows == Rows::kQueries ? 1 : p.heads_of_key;
    for (int h = 0; h < heads; ++h) {
      const unsigned tile_head = rows == Rows::kQueries ? head / p.heads_of_key : head * p.heads_of_key + h;
      for (int i = 0; i < plan.tiles.count(); ++i, ++tile) {
        FeedTile<D, rows>(s, p, plan, plan.tiles[i], tile_head, tile);
      }
    }
  });
  wait_for_plan();
  if (Lane() == 0) {
    s.plans[number % kPlans<D>].none = true;
    Arrive(&s.ready[number % kPlans<D>]);
  }
}

}  // namespace
}  // namespace swarr
