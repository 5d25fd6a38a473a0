// SPDX-License-Identifier: Apache-2.0
// How the warpgroups of attention's forward are fed (attention_wgmma.cu): which tiles of keys a block of queries needs,
// and how these come to shared memory.
//
// A work is some queries of one head, 64 for each group that multiplies. Of the group that feeds, one warp makes the
// plan of the next work and has the copy engine bring its queries and its keys; another warp brings the values,
// so that neither waits for the other's ring. Both run ahead as far as there is room, and groups find their next work
// there.
//
//   ready[plan]          the plan stands and its queries have arrived
//   done[plan]           all are done with it
//   full[stage][half]    the stage's keys, or values, have arrived
//   empty[stage][half]   all groups are done with them
#pragma once

#include "cuda/attention/attention_groups.h"

namespace swarr {
namespace {

constexpr int kPlans = 2;
enum Half { kKeys, kValues, kHalves };

// P: head dim. `groups`: of a block, beside the one that feeds, with so many registers a thread.
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
  int first_key, end_key;  // rows of the document's keys
  AttentionSpec spec;
  TileList tiles;           // of the softmax, as they come through the rings
  Run runs[S::kGroups][2];  // what each group sees of them: sinks and recent ones
  KeyRange by_all[S::kGroups];
  int positions[S::kRows];
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
  CUtensorMap q, k;
  Matrix v;
  DocumentQueries<BFloat16> documents;
  const std::int32_t *q_pos, *prompts;
  AttentionSpec spec;  // of the model
  unsigned heads_of_key;

  __device__ unsigned KeyHeadOf(unsigned head) const { return head / heads_of_key; }
};

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
  plan.first_key = b.first_row, plan.end_key = b.first_row + b.length, plan.spec = spec, plan.tiles = tiles;
}

// Brings the keys of a plan's tiles. `tile`: the number of the next one. One thread. Keys behind the document's end do
// no harm: their scores are masked.
template <class S>
__device__ void FeedKeyTiles(const Rings<S>& rings, const Plan<S>& plan, const CUtensorMap& keys, unsigned key_head,
                             unsigned& tile) {
  const TileList tiles = plan.tiles;
  const int first_key = plan.first_key, count = tiles.count();
  for (int i = 0; i < count; ++i, ++tile) {
    std::uint64_t* full = &rings.state.full[tile % S::kStages][kKeys];
    WaitBarrier(&rings.state.empty[tile % S::kStages][kKeys], tile / S::kStages % 2 ^ 1);
    ArriveAndExpect(full, S::kTileBytes);
    CopyHead<S::kWidth>(rings.Tile(tile, kKeys), keys, first_key + tiles[i] * kSoftmaxTile, key_head, full);
  }
}

// Brings the values of a plan's tiles. One warp.
template <class S>
__device__ void FeedValueTiles(const Rings<S>& rings, const Plan<S>& plan, const Matrix& values, unsigned key_head,
                               unsigned& tile) {
  const TileList tiles = plan.tiles;
  const int first_key = plan.first_key, end_key = plan.end_key, count = tiles.count();
  for (int i = 0; i < count; ++i, ++tile) {
    const int row = first_key + tiles[i] * kSoftmaxTile, valid = end_key - row;
    std::uint64_t* full = &rings.state.full[tile % S::kStages][kValues];
    char* to = rings.Tile(tile, kValues);
    WaitBarrier(&rings.state.empty[tile % S::kStages][kValues], tile / S::kStages % 2 ^ 1);
    if (valid < kPanel) {
      CopyFirstRows<S::kWidth>(to, values, row, key_head, valid);
      ShowStores();
    }
    __syncwarp();
    if (Lane() != 0) continue;
    if (valid < kPanel) {
      Arrive(full);
    } else {
      ArriveAndExpect(full, S::kTileBytes);
      CopyHead<S::kWidth>(to, values.map, row, key_head, full);
    }
  }
}

// Makes plans, and brings their queries and keys. One warp.
template <class S>
__device__ void FeedKeys(const Rings<S>& rings, const Source& source, const WorkOrder& order) {
  SharedState<S>& state = rings.state;
  unsigned number = 0, tile = 0;
  const auto wait_for_plan = [&] { WaitBarrier(&state.done[number % kPlans], number / kPlans % 2 ^ 1); };
  TakeWorks(order, source.documents, S::kRows, [&](const DocumentBlock& b, unsigned head) {
    wait_for_plan();
    Plan<S>& plan = state.plans[number % kPlans];
    MakePlan(plan, source, b, head);
    __syncwarp();
    if (Lane() == 0) {
      std::uint64_t* ready = &state.ready[number % kPlans];
      ArriveAndExpect(ready, S::kQueryBytes);
      for (int group = 0; group < S::kGroups; ++group) {
        CopyHead<S::kWidth>(rings.Queries(number) + group * S::kTileBytes, source.q,
                            b.first_row + b.begin + group * kPanel, head, ready);
      }
      FeedKeyTiles(rings, plan, source.k, source.KeyHeadOf(head), tile);
    }
    __syncwarp();
    ++number;
  });
  wait_for_plan();
  if (Lane() == 0) {
    state.plans[number % kPlans].count = 0;
    Arrive(&state.ready[number % kPlans]);
  }
}

// Brings the values. One warp.
template <class S>
__device__ void FeedValues(const Rings<S>& rings, const Source& source) {
  SharedState<S>& state = rings.state;
  unsigned tile = 0;
  for (unsigned number = 0;; ++number) {
    const Plan<S>& plan = state.plans[number % kPlans];
    WaitBarrier(&state.ready[number % kPlans], number / kPlans % 2);
    if (plan.count == 0) return;
    FeedValueTiles(rings, plan, source.v, source.KeyHeadOf(plan.head), tile);
    __syncwarp();
    if (Lane() == 0) Arrive(&state.done[number % kPlans]);
  }
}

}  // namespace
}  // namespace swarr
