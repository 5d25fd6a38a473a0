// SPDX-License-Identifier: Apache-2.0
// What a group of attention's backward does with one tile (attention_backward_wgmma.cu), for dq and for dk and dv:
//
//   Score           begins x u^T, and y w^T as another batch of products
//   Weigh           makes p of the former, while the latter are multiplied
//   Differentiate   makes ds of the latter and p
//   Round           makes operands of p and ds
//   Add             begins the products for the gradients
//
// p and ds go from sums to operands within registers. u and w serve both ways: as rows for p and ds, transposed for the
// gradients.
#pragma once

#include "cuda/attention/attention_backward_feed.h"

namespace swarr {
namespace {

// Where the first of this thread's two rows is among the group's 64; the second is 8 below.
__device__ inline int RowInGroup() { return static_cast<int>(threadIdx.x) % kGroup / kWarp * 16 + Lane() / 4; }

// p and ds begin alike in both kernels.
template <int D>
struct ScoreStep {
  GroupScores p, ds;

  __device__ void Score(const TilePair<D>& rows, const TilePair<D>& tile) {
    FenceSums();
    MultiplyByTile<D>(p, Describe(rows.first), Describe(tile.first));
    CommitProducts();
    MultiplyByTile<D>(ds, Describe(rows.second), Describe(tile.second));
    CommitProducts();
  }
};

// Rows are queries, tiles are keys: dq += ds u.
template <int D>
struct QueryStep : ScoreStep<D> {
  using ScoreStep<D>::p, ScoreStep<D>::ds;
  ScoreGradient gradient;
  AttentionSpec spec;
  KeyRange by_all;
  int positions[2];  // of this thread's two rows
  float lse2[2], delta[2];
  GroupWeights weights;
  float dq[D / 2] = {};

  __device__ QueryStep(const Problem& problem, const Plan& plan, const QueryNumbers& numbers)
      : gradient(problem.gradient), spec(plan.spec), by_all(numbers.by_all) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = RowInGroup() + 8 * i;
      positions[i] = numbers.position[r], lse2[i] = numbers.lse2[r], delta[i] = numbers.delta[r];
    }
  }
  __device__ void Weigh(const QueryNumbers&) {
    KeepHere(p);
#pragma unroll
    for (int e = 0; e < kPanel / 2; ++e) p[e] = gradient.Weight(p[e], lse2[e / 2 % 2]);
    KeepHere(p);
  }
  // Masks in a loop of its own. With a choice for each element, one would wait for the other.
  __device__ void Differentiate(int tile, const QueryNumbers&) {
    KeepHere(ds);
#pragma unroll
    for (int e = 0; e < kPanel / 2; ++e) ds[e] = gradient.OfScore(p[e], ds[e], delta[e / 2 % 2]);
    const int first_key = tile * kPanel;
    if (first_key < by_all.begin || first_key + kPanel > by_all.end) {
      MaskScores([&](int block) { return ds + 4 * block; }, positions, first_key, spec, 0);
    }
  }
  __device__ void Round() { RoundToWeights(weights, ds); }
  __device__ void Add(const TilePair<D>& tile) { AddTile(dq, weights, tile.first); }
};

// Rows are keys, tiles are queries: dv += p w, dk += ds u.
template <int D>
struct KeyStep : ScoreStep<D> {
  using ScoreStep<D>::p, ScoreStep<D>::ds;
  ScoreGradient gradient;
  int first_key;        // of the group
  KeyRange queries[2];  // positions that see the keys of this thread's two rows
  GroupWeights weights, ds_weights;
  float dk[D / 2] = {}, dv[D / 2] = {};

  __device__ KeyStep(const Problem& problem, const Plan& plan, int first)
      : gradient(problem.gradient), first_key(first) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      queries[i] = QueriesOf(first + RowInGroup() + 8 * i, std::numeric_limits<int>::max() - 1, plan.spec);
    }
  }
  __device__ void Weigh(const QueryNumbers& numbers) {
    KeepHere(p);
#pragma unroll
    for (int block = 0; block < kPanel / 8; ++block) {
      const float2 lse2 = PairOf(numbers.lse2, block);
#pragma unroll
      for (int e = 4 * block; e < 4 * block + 4; e += 2) {
        p[e] = gradient.Weight(p[e], lse2.x), p[e + 1] = gradient.Weight(p[e + 1], lse2.y);
      }
    }
    KeepHere(p);
  }
  __device__ void Differentiate(int, const QueryNumbers& numbers) {
    KeepHere(ds);
#pragma unroll
    for (int block = 0; block < kPanel / 8; ++block) {
      const float2 delta = PairOf(numbers.delta, block);
#pragma unroll
      for (int e = 4 * block; e < 4 * block + 4; e += 2) {
        ds[e] = gradient.OfScore(p[e], ds[e], delta.x), ds[e + 1] = gradient.OfScore(p[e + 1], ds[e + 1], delta.y);
      }
    }
    if (first_key < numbers.by_all.begin || first_key + kPanel > numbers.by_all.end) Mask(numbers);
  }
  __device__ void Round() {
    RoundToWeights(weights, p);
    RoundToWeights(ds_weights, ds);
  }
  __device__ void Add(const TilePair<D>& tile) {
    AddTile(dv, weights, tile.second);
    AddTile(dk, ds_weights, tile.first);
  }

 private:
  // The numbers of this thread's two queries in a block of 8.
  static __device__ float2 PairOf(const float (&numbers)[kPanel], int block) {
    return *reinterpret_cast<const float2*>(numbers + 8 * block + 2 * (Lane() % 4));
  }
  __device__ void Mask(const QueryNumbers& numbers) {
#pragma unroll
    for (int e = 0; e < kPanel / 2; ++e) {
      const int position = numbers.position[e / 4 * 8 + 2 * (Lane() % 4) + e % 2];
      const KeyRange seen_by = queries[e / 2 % 2];
      // One comparison, and no branch.
      const bool seen = static_cast<unsigned>(position - seen_by.begin) < static_cast<unsigned>(seen_by.size());
      p[e] = seen ? p[e] : 0.0f, ds[e] = seen ? ds[e] : 0.0f;
    }
  }
};

}  // namespace
}  // namespace swarr
