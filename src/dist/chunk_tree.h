// SPDX-License-Identifier: Apache-2.0
// The binary tree along which the gradients of a step's chunks are added, and who computes which chunks.
//
// The tree over chunks [begin, end) has the halves of that range as its children, the left one larger by one where the
// number is odd, down to single chunks:   sum[begin, end) = sum[begin, middle) + sum[middle, end).
// It depends on how many chunks there are and on nothing else. Ranks share it out from the root: of a node's ranks each
// half gets its share, by its chunks, and a node with one rank is that rank's alone. So every rank has one whole
// subtree, hands on one sum, and the sums of the ranks are added along what is left of the tree.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace swarr {

struct ChunkRange {
  int begin = 0, end = 0;

  int size() const { return end - begin; }
  std::pair<ChunkRange, ChunkRange> Halves() const {
    const int middle = begin + (size() + 1) / 2;
    return {{begin, middle}, {middle, end}};
  }
  bool operator==(const ChunkRange&) const = default;
};

// The chunks of each rank. Throws Error unless 1 <= ranks <= chunks.
std::vector<ChunkRange> ChunksOfRanks(int chunks, int ranks);

// Adds what the ranks hold along the tree: add(a, b) adds what rank b holds to what rank a holds. The sum is rank 0's
// in the end. Throws as ChunksOfRanks does.
void AddAlongTree(int chunks, int ranks, const std::function<void(int, int)>& add);

// How many sums wait at most while one rank computes so many chunks one after another: the depth of their tree.
int SumsHeld(int chunks);

// Computes the chunks of a range in order and adds them along the tree. compute(chunk) leaves a chunk's gradient where
// nothing was; hold(depth) puts a sum that is complete aside, depth from 0 up, and leaves nothing in its place;
// add(depth) adds what was put aside to what is there.
void SumChunks(ChunkRange range, const std::function<void(int)>& compute, const std::function<void(int)>& hold,
               const std::function<void(int)>& add, int depth = 0);

}  // namespace swarr
