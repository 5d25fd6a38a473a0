// SPDX-License-Identifier: Apache-2.0
// The ranks that train together, or the only one: what training loops ask, so that they need not ask whether they are
// alone. Alone, everything here does nothing, or hands back what it was given.
//
// Why N ranks give the bits of one. The gradient of a step is a sum over *chunks*: micro-batches of SFT, runs of groups
// of RL. How many there are is a setting of the run; on how many ranks they are computed is not. The chunks are added
// along a tree (chunk_tree.h), of which every rank computes one whole subtree. Then each rank adds up and updates a
// *shard* of the parameters, elementwise, and the shards are handed round. What is sampled does not depend on who
// samples it (P8, P9 in docs/architecture.md), and what is reported is gathered chunk by chunk, in order.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "dist/chunk_tree.h"
#include "dist/communicator.h"

namespace swarr {

// Elements [begin, end) of the flat parameters, or things [begin, end) in a row.
struct Part {
  std::int64_t begin = 0, end = 0;

  std::int64_t size() const { return end - begin; }
  Tensor Of(const Tensor& flat) const { return flat.Rows(begin, end); }
};

class Ranks {
 public:
  Ranks() = default;
  // Keeps a reference.
  explicit Ranks(Communicator& communicator) : communicator_(&communicator) {}

  int rank() const { return communicator_ ? communicator_->rank() : 0; }
  int size() const { return communicator_ ? communicator_->size() : 1; }
  bool alone() const { return size() == 1; }
  Communicator::Times TakeTimes() const { return communicator_ ? communicator_->TakeTimes() : Communicator::Times{}; }

  // The last that all ranks call.
  void End() const {
    if (communicator_) communicator_->End();
  }

  // This rank's part of `count` things in a row; all parts have the same number of them, but for one.
  Part PartOf(std::int64_t count) const { return {count * rank() / size(), count * (rank() + 1) / size()}; }
  // This rank's chunks of a step.
  ChunkRange ChunksOf(int chunks) const { return ChunksOfRanks(chunks, size())[static_cast<std::size_t>(rank())]; }
  // Rank r's parameters: whole chunks of SquaresOfChunks, so that the norm's partial sums are every rank's own.
  Part ShardOf(std::int64_t parameters, int r) const;

  // What all ranks give, one after another.
  template <class T>
  std::vector<T> GatherAll(const std::vector<T>& own) const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (alone()) return own;
    std::vector<T> all;
    for (const std::string& bytes :
         communicator_->Gather({reinterpret_cast<const char*>(own.data()), own.size() * sizeof(T)})) {
      SWARR_CHECK(bytes.size() % sizeof(T) == 0, "a rank gives ", bytes.size(),
                  " bytes where another kind is expected");
      if (bytes.empty()) continue;  // memcpy takes no null, not even for nothing
      const std::size_t before = all.size();
      all.resize(before + bytes.size() / sizeof(T));
      std::memcpy(all.data() + before, bytes.data(), bytes.size());
    }
    return all;
  }

  // Before: every rank holds the sum over its chunks in all of `flat`. After: its shard holds the sum over all chunks.
  // `received`: [size() - 1, shard], memory for what the others send.
  void SumShards(const Context& ctx, const Tensor& flat, int chunks, const Tensor& received) const;
  // Before: every rank has written its shard of `flat`. After: all have all of it.
  void SpreadShards(const Context& ctx, const Tensor& flat) const;
  // Before: rank r has part(r). After: all have all parts, which may be of different sizes, and of none.
  void Spread(const Context& ctx, const std::function<Tensor(int)>& part) const;
  // Rank 0's tensor comes to all.
  void FromFirst(const Context& ctx, const Tensor& t) const;
  // Rank 0's `others` gets every other rank's shard, one after another, or gives it; elsewhere `others` is empty.
  void ShardsToFirst(const Context& ctx, const Tensor& shard, const Tensor& others) const;
  void ShardsFromFirst(const Context& ctx, const Tensor& shard, const Tensor& others) const;

 private:
  // All that rank 0 sends to each other rank, or gets from it.
  enum class Way : bool { kFromFirst, kToFirst };
  void ExchangeWithFirst(const Context& ctx, Way way, const Tensor& own,
                         const std::function<Tensor(int)>& of_first) const;
  void ExchangeShards(const Context& ctx, Way way, const Tensor& shard, const Tensor& others) const;

  Communicator* communicator_ = nullptr;
};

}  // namespace swarr
