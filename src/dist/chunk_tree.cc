// SPDX-License-Identifier: Apache-2.0
#include "dist/chunk_tree.h"

#include <algorithm>

#include "base/check.h"

namespace swarr {
namespace {

// How many of a node's ranks its left half gets: its share, and at least one for each half, and for no half more ranks
// than it has chunks.
int RanksOfLeft(ChunkRange range, int ranks) {
  const auto [left, right] = range.Halves();
  const int share = (2 * ranks * left.size() + range.size()) / (2 * range.size());
  return std::clamp(share, std::max(1, ranks - right.size()), std::min(ranks - 1, left.size()));
}

void ShareOut(ChunkRange range, int ranks, std::vector<ChunkRange>& shares) {
  if (ranks == 1) {
    shares.push_back(range);
    return;
  }
  const auto [left, right] = range.Halves();
  const int of_left = RanksOfLeft(range, ranks);
  ShareOut(left, of_left, shares);
  ShareOut(right, ranks - of_left, shares);
}

void AddRanks(ChunkRange range, int first, int ranks, const std::function<void(int, int)>& add) {
  if (ranks == 1) return;
  const auto [left, right] = range.Halves();
  const int of_left = RanksOfLeft(range, ranks);
  AddRanks(left, first, of_left, add);
  AddRanks(right, first + of_left, ranks - of_left, add);
  add(first, first + of_left);
}

void CheckRanks(int chunks, int ranks) {
  SWARR_CHECK(ranks >= 1 && ranks <= chunks, chunks, " chunks of a step can't be shared out to ", ranks,
              " ranks; give every rank at least one (sft: --grad-accum, rl: --chunks)");
}

}  // namespace

std::vector<ChunkRange> ChunksOfRanks(int chunks, int ranks) {
  CheckRanks(chunks, ranks);
  std::vector<ChunkRange> shares;
  ShareOut({0, chunks}, ranks, shares);
  return shares;
}

void AddAlongTree(int chunks, int ranks, const std::function<void(int, int)>& add) {
  CheckRanks(chunks, ranks);
  AddRanks({0, chunks}, 0, ranks, add);
}

int SumsHeld(int chunks) {
  int depth = 0;
  for (; chunks > 1; chunks = (chunks + 1) / 2) ++depth;
  return depth;
}

void SumChunks(ChunkRange range, const std::function<void(int)>& compute, const std::function<void(int)>& hold,
               const std::function<void(int)>& add, int depth) {
  if (range.size() == 1) return compute(range.begin);
  const auto [left, right] = range.Halves();
  SumChunks(left, compute, hold, add, depth);
  hold(depth);
  SumChunks(right, compute, hold, add, depth + 1);
  add(depth);
}

}  // namespace swarr
