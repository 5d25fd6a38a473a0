// SPDX-License-Identifier: Apache-2.0
#include "dist/ranks.h"

#include <algorithm>

#include "tensor/ops.h"
#include "tensor/transfer.h"

namespace swarr {

Part Ranks::ShardOf(std::int64_t parameters, int r) const {
  const std::int64_t chunks = NormChunks(parameters);
  const auto end = [&](std::int64_t ranks) { return std::min(parameters, chunks * ranks / size() * kNormChunk); };
  return {end(r), end(r + 1)};
}

void Ranks::SumShards(const Context& ctx, const Tensor& flat, int chunks, const Tensor& received) const {
  if (alone()) return;
  const auto own = static_cast<std::size_t>(rank());
  const Part shard = ShardOf(flat.size(), rank());
  std::vector<Tensor> send, sums;
  for (int r = 0; r < size(); ++r) {
    send.push_back(ShardOf(flat.size(), r).Of(flat));
    const std::int64_t begin = (r < rank() ? r : r - 1) * shard.size();
    sums.push_back(r == rank() ? shard.Of(flat) : received.Rows(begin, begin + shard.size()));
  }
  std::vector<Tensor> receive = sums;
  send[own] = receive[own] = {};
  communicator_->Exchange(ctx, send, receive);
  if (shard.size() == 0) return;
  const auto at = [&](int r) { return sums[static_cast<std::size_t>(r)]; };
  AddAlongTree(chunks, size(), [&](int a, int b) { AddGradient(ctx, at(a), at(b)); });
  if (own != 0) Copy(ctx, sums[own], sums[0]);
}

void Ranks::SpreadShards(const Context& ctx, const Tensor& flat) const {
  Spread(ctx, [&](int r) { return ShardOf(flat.size(), r).Of(flat); });
}

void Ranks::Spread(const Context& ctx, const std::function<Tensor(int)>& part) const {
  if (alone()) return;
  const auto own = static_cast<std::size_t>(rank());
  std::vector<Tensor> send(static_cast<std::size_t>(size()), part(rank())), receive;
  for (int r = 0; r < size(); ++r) receive.push_back(part(r));
  send[own] = receive[own] = {};
  communicator_->Exchange(ctx, send, receive);
}

void Ranks::ExchangeWithFirst(const Context& ctx, Way way, const Tensor& own,
                              const std::function<Tensor(int)>& of_first) const {
  if (alone()) return;
  std::vector<Tensor> mine(static_cast<std::size_t>(size()));
  const std::vector<Tensor> nothing(mine.size());
  if (rank() != 0) mine[0] = own;
  for (int r = 1; rank() == 0 && r < size(); ++r) mine[static_cast<std::size_t>(r)] = of_first(r);
  const bool sends = (rank() == 0) == (way == Way::kFromFirst);
  communicator_->Exchange(ctx, sends ? mine : nothing, sends ? nothing : mine);
}

void Ranks::FromFirst(const Context& ctx, const Tensor& t) const {
  ExchangeWithFirst(ctx, Way::kFromFirst, t, [&](int) { return t; });
}

void Ranks::ExchangeShards(const Context& ctx, Way way, const Tensor& shard, const Tensor& others) const {
  const std::int64_t own = shard.size(), all = own + (others.empty() ? 0 : others.size());
  ExchangeWithFirst(ctx, way, shard, [&](int r) {
    const Part part = ShardOf(all, r);
    return others.Rows(part.begin - own, part.end - own);
  });
}

void Ranks::ShardsToFirst(const Context& ctx, const Tensor& shard, const Tensor& others) const {
  ExchangeShards(ctx, Way::kToFirst, shard, others);
}

void Ranks::ShardsFromFirst(const Context& ctx, const Tensor& shard, const Tensor& others) const {
  ExchangeShards(ctx, Way::kFromFirst, shard, others);
}

}  // namespace swarr
