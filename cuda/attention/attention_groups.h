// SPDX-License-Identifier: Apache-2.0
// What attention's kernels by warpgroups share (attention_wgmma.cu, attention_backward_wgmma.cu): in which order they
// take their works, how tiles of one head come to shared memory, and the products with them.
//
// A block of threads lives on from work to work. A work is some rows of a document for one head: queries of a query
// head, or keys of a key head. Which block takes a work changes no bit, since every sum belongs to one work.
#pragma once

#include <algorithm>

#include "cuda/attention/attention_softmax.h"
#include "cuda/wgmma.h"

namespace swarr {
namespace {

static_assert(kSoftmaxTile == kPanel);

// The order in which works are taken: blocks of rows of all heads. Some heads after the others, as many as the
// second-level cache holds the tiles of; within them blocks of all documents in turns, each document's longest works
// first; then heads.
struct WorkOrder {
  unsigned blocks, documents, heads, heads_together;
  bool from_end;  // of documents: later queries see more keys. Earlier keys are seen by more queries.

  struct Work {
    unsigned block, head;
  };
  __host__ __device__ unsigned count() const { return blocks * heads; }
  __device__ Work At(unsigned index) const {
    const unsigned first = index / (blocks * heads_together) * heads_together, within = index - first * blocks,
                   width = min(heads_together, heads - first), slot = within / width, each = blocks / documents;
    unsigned block = slot;
    if (slot < each * documents) {  // documents of one length have `each` blocks
      const unsigned place = slot / documents;
      block = slot % documents * each + (from_end ? each - 1 - place : place);
    }
    return {block, first + within % width};
  }
};

// How many key heads are taken together, if so many bytes are read again and again for each of them. Under a window
// works read what is around them alone, and neighbouring heads lie side by side in memory.
inline unsigned KeyHeadsTogether(const DocumentQueries<BFloat16>& documents, AttentionSpec spec, std::int64_t bytes) {
  constexpr std::int64_t kCacheBytes = 24 << 20;  // half of the second-level cache
  const std::int64_t together = spec.window != 0 ? documents.G : kCacheBytes / bytes;
  return static_cast<unsigned>(std::clamp<std::int64_t>(together, 1, documents.G));
}

// Blocks of `rows` queries of all query heads.
inline WorkOrder OrderOfQueries(const DocumentQueries<BFloat16>& documents, AttentionSpec spec, std::int64_t N,
                                int rows) {
  const std::int64_t heads_of_key = documents.H / documents.G, keys_and_values = N * documents.D * 4;
  return {static_cast<unsigned>(DocumentBlocks(N, documents.documents, rows)),
          static_cast<unsigned>(documents.documents), static_cast<unsigned>(documents.H),
          KeyHeadsTogether(documents, spec, keys_and_values) * static_cast<unsigned>(heads_of_key), /*from_end=*/true};
}

// Blocks of `rows` keys of all key heads.
inline WorkOrder OrderOfKeys(const DocumentQueries<BFloat16>& documents, AttentionSpec spec, std::int64_t N, int rows) {
  const std::int64_t queries_and_grads = N * documents.D * 4 * (documents.H / documents.G);
  return {static_cast<unsigned>(DocumentBlocks(N, documents.documents, rows)),
          static_cast<unsigned>(documents.documents), static_cast<unsigned>(documents.G),
          KeyHeadsTogether(documents, spec, queries_and_grads), /*from_end=*/false};
}

// Calls f(rows, head) for this block's works, one after another. They are dealt out forwards and backwards in turns, so
// that no block has the longest every time. All threads that call get the same.
template <class F>
__device__ void TakeWorks(const WorkOrder& order, const DocumentQueries<BFloat16>& documents, int rows, F&& f) {
  const unsigned works = order.count();
  for (unsigned round = 0; round * gridDim.x < works; ++round) {
    const unsigned place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x, index = round * gridDim.x + place;
    if (index >= works) continue;
    const WorkOrder::Work work = order.At(index);
    const DocumentBlock b = DocumentBlockOf(documents.first_row, documents.documents, rows, work.block);
    if (b.begin < b.end) f(b, work.head);
  }
}

// Copies 64 rows of one head of D numbers, in panels of 64 columns.
template <int D>
__device__ void CopyHead(char* to, const CUtensorMap& matrix, int row, unsigned head, std::uint64_t* barrier) {
#pragma unroll
  for (int panel = 0; panel < D / kPanel; ++panel) {
    CopyBox(to + panel * kPanelBytes, matrix, static_cast<int>(head) * D + panel * kPanel, row, barrier);
  }
}

// A tensor [N, heads, D], and how the copy engine sees it.
struct Matrix {
  CUtensorMap map;
  const BFloat16* data;
  std::int64_t width;  // heads * D
};

inline Matrix MatrixOf(const Tensor& t) {
  const std::int64_t width = t.dim(1) * t.dim(2);
  const auto* data = t.data<BFloat16>();
  return {DescribeMatrix(data, t.dim(0), width, width, kPanel), data, width};
}

// Copies the first `valid` of 64 rows, and zeros for the others. These are another document's, and what weighs nothing
// may not be NaN. Not unrolled: it is for the last tile of a document, and who feeds has few registers.
template <int D>
__device__ void CopyFirstRows(char* to, const Matrix& from, std::int64_t row, unsigned head, int valid) {
  constexpr int kChunks = D / 8;
#pragma unroll 1
  for (int i = Lane(); i < kPanel * kChunks; i += kWarp) {
    const int r = i / kChunks, chunk = i % kChunks;
    uint4 x = {};
    if (r < valid) x = *reinterpret_cast<const uint4*>(from.data + (row + r) * from.width + head * D + chunk * 8);
    *reinterpret_cast<uint4*>(to + chunk / 8 * kPanelBytes + r * kLineBytes + (chunk % 8 ^ r % 8) * 16) = x;
  }
}

// A group's 64 rows with the 64 of a tile: as sums, and rounded to the left operand of the next product.
using GroupScores = float[kPanel / 2];
using GroupWeights = unsigned[kPanel / 16][4];

// Where columns 16 k to 16 k + 15 of a tile are, from its place.
constexpr int SliceOf(int k) { return k * 16 / kPanel * (kPanelBytes / 16) + k * 16 % kPanel / 16 * kNextSlice<false>; }

// Begins scores = a tile^T, ascending in the head dim.
template <int D>
__device__ void MultiplyByTile(GroupScores& scores, std::uint64_t a, std::uint64_t tile) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    MultiplyAccumulateGroup<false, false>(scores, Advance(a, SliceOf(k)), Advance(tile, SliceOf(k)), k > 0);
  }
}

// Begins sums += weights tile, ascending in the tile's rows.
template <int kSums>
__device__ void AddTile(float (&sums)[kSums], const GroupWeights& weights, const char* tile) {
  const std::uint64_t b = Describe(tile);
#pragma unroll
  for (int k = 0; k < kPanel / 16; ++k) {
    MultiplyAccumulateGroup<true>(sums, weights[k], Advance(b, k * kNextSlice<true>), 1);
  }
}

__device__ inline void RoundToWeights(GroupWeights& weights, const GroupScores& scores) {
#pragma unroll
  for (int k = 0; k < kPanel / 16; ++k) {
#pragma unroll
    for (int j = 0; j < 4; ++j) weights[k][j] = RoundPair(scores[8 * k + 2 * j], scores[8 * k + 2 * j + 1]);
  }
}

}  // namespace
}  // namespace swarr
