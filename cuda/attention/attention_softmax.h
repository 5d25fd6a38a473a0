// SPDX-License-Identifier: Apache-2.0
// The softmax of attention's forward on tensor cores, as warps (attention_mma.cu) and warpgroups (attention_wgmma.cu)
// take it. Both keep to it, so they have the same bits.
//
// It goes through tiles of kSoftmaxTile keys, in powers of 2, relative to the largest score so far; a new maximum
// rescales what was summed before. It is the same function of a query and its own keys wherever it runs: a tile that
// the query doesn't see leaves its maximum, sum and output as they are (Exp2(0) is 1, a weight of 0 adds 0), and rows
// of a product do not mix.
//
// A thread has parts of two rows of 16, lane / 4 and lane / 4 + 8: of every block of 8 columns the pair 2 (lane % 4)
// and its right neighbour. Functions get such blocks through at(block), which points to the first row's pair, followed
// by the second's.
#pragma once

#include "cuda/attention/attention_products.h"

namespace swarr {

// Keys, counted from the document's start. Larger tiles are weighed in fewer steps; smaller ones waste less at the
// edges of windows.
constexpr int kSoftmaxTile = 64;
constexpr int kSoftmaxBlocks = kSoftmaxTile / 8;
static_assert(kSoftmaxTile % kKeyTile == 0);

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// The tiles of the softmax that hold some of these tiles of keys.
__device__ inline TileList SoftmaxTilesOf(TileList tiles) {
  constexpr int kEach = kSoftmaxTile / kKeyTile;
  const auto [sinks, recent] = tiles.ranges;
  const int begin = recent.begin / kEach;
  return {{{0, min((sinks.end + kEach - 1) / kEach, begin)}, {begin, (recent.end + kEach - 1) / kEach}}};
}

// Scores of keys that their row doesn't see become `nothing`.
template <class Blocks>
__device__ inline void MaskScores(Blocks&& at, const int (&positions)[2], int first_key, AttentionSpec spec,
                                  float nothing = kNothing) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const VisibleKeys seen = VisibleKeysOf(positions[i], spec);
    const int first = first_key + 2 * (Lane() % 4), begin = first - seen.recent.begin, sinks = seen.sinks.end - first;
    const auto size = static_cast<unsigned>(seen.recent.size());
#pragma unroll
    for (int block = 0; block < kSoftmaxBlocks; ++block) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = 8 * block + j;
        if (static_cast<unsigned>(begin + column) >= size && column >= sinks) at(block)[2 * i + j] = nothing;
      }
    }
  }
}

// The softmax of two rows so far.
class RowSoftmax {
 public:
  __device__ RowSoftmax() : largest_{kNothing, kNothing}, sum_{0, 0} {}

  // Begins row i with its learned sink. The first of the four lanes that share the row has it in its sum.
  __device__ void BeginWith(int i, float sink) {
    largest_[i] = sink * kInverseLn2;
    sum_[i] = Lane() % 4 == 0 ? 1.0f : 0.0f;
  }

  // Turns a tile's scores into weights, and says by what earlier sums shrink. scale2 = scale / ln 2, so that
  // exp(scale x) = 2^(scale2 x).
  template <class Blocks>
  __device__ void Weigh(Blocks&& at, float scale2, float (&rescale)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float base = Raise(i, LargestOf(at, i), scale2, rescale[i]);
      Add(i, rescale[i], WeighRow(at, i, scale2, base));
    }
  }

  // The steps of Weigh. The largest score of row i in a tile; all lanes call.
  template <class Blocks>
  __device__ static float LargestOf(Blocks&& at, int i) {
    float most = kNothing;
#pragma unroll
    for (int block = 0; block < kSoftmaxBlocks; ++block) {
      most = fmaxf(most, fmaxf(at(block)[2 * i], at(block)[2 * i + 1]));
    }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    return fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
  }
  // Takes note of it. Returns what the tile's weights are relative to.
  __device__ float Raise(int i, float most, float scale2, float& rescale) {
    const float new_largest = fmaxf(largest_[i], most * scale2);
    const float base = new_largest == kNothing ? 0.0f : new_largest;
    rescale = Exp2(largest_[i] - base);
    largest_[i] = new_largest;
    return base;
  }
  // Makes weights of the scores. Returns the sum of this thread's.
  template <class Blocks>
  __device__ static float WeighRow(Blocks&& at, int i, float scale2, float base) {
    float total = 0;
#pragma unroll
    for (int block = 0; block < kSoftmaxBlocks; ++block) {
#pragma unroll
      for (int j = 2 * i; j < 2 * i + 2; ++j) {
        const float weight = Exp2(__fmaf_rn(at(block)[j], scale2, -base));
        at(block)[j] = weight;
        total += weight;
      }
    }
    return total;
  }
  __device__ void Add(int i, float rescale, float total) { sum_[i] = sum_[i] * rescale + total; }

  // The sum of row i. All lanes call.
  __device__ float Sum(int i) const {
    const float pair = sum_[i] + __shfl_xor_sync(0xffffffffu, sum_[i], 1);
    return pair + __shfl_xor_sync(0xffffffffu, pair, 2);
  }

  // A row that sees nothing has the sum 0, and 0 as its output.
  __device__ static float Inverse(float sum) { return sum == 0 ? 0.0f : 1.0f / sum; }

  // The log of row i's sum, with the learned sink that it began with, or kNothing. Where the sink is the largest, it is
  // taken as it is: the lse of a row that sees no key is the sink itself.
  __device__ float LogSum(int i, float sum, float sink) const {
    constexpr float kLn2 = 0.693147180559945309417f;
    if (sum == 0) return kNothing;
    return (largest_[i] == sink * kInverseLn2 ? sink : largest_[i] * kLn2) + logf(sum);
  }

 private:
  float largest_[2];  // times scale / ln 2
  float sum_[2];      // of this thread's columns
};

// Multiplies sums by what Weigh said. By 1, which changes nothing, is mostly all that is asked: maxima soon stop
// growing.
template <int kBlocks, class Blocks>
__device__ inline void RescaleSums(Blocks&& at, const float (&rescale)[2]) {
  if (!__any_sync(0xffffffffu, rescale[0] != 1 || rescale[1] != 1)) return;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
    for (int j = 0; j < 4; ++j) at(block)[j] *= rescale[j / 2];
  }
}

// Writes a row's columns from `first` on, those of this thread, where `out` is the row; D of them are there.
template <int kBlocks, class Blocks>
__device__ inline void StoreColumns(BFloat16* out, int first, int D, int i, float inverse, Blocks&& at) {
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const int column = first + 8 * block + 2 * (Lane() % 4);
    // + 0: as in Gradient::Add.
    const unsigned pair = RoundPair(at(block)[2 * i] * inverse + 0.0f, at(block)[2 * i + 1] * inverse + 0.0f);
    if (column < D) *reinterpret_cast<unsigned*>(out + column) = pair;
  }
}

// Writes this thread's part of row i of the output, D <= 8 kBlocks numbers, and its lse. All lanes call; row < 0: there
// is none.
template <int kBlocks, class Blocks>
__device__ inline void StoreRow(BFloat16* out, float* lse, std::int64_t row, int D, int i, const RowSoftmax& softmax,
                                float sink, Blocks&& at) {
  const float sum = softmax.Sum(i);
  if (row < 0) return;
  StoreColumns<kBlocks>(out + row * D, 0, D, i, RowSoftmax::Inverse(sum), at);
  if (Lane() % 4 == 0) lse[row] = softmax.LogSum(i, sum, sink);
}

}  // namespace swarr
