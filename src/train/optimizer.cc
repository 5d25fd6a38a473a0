// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/memory_report.h"
#include "tensor/ops.h"
#include "tensor/transfer.h"

namespace swarr {

double LearningRate(const OptimizerOptions& options, std::int64_t step, std::int64_t steps) {
  if (step < options.warmup_steps) {
    return options.lr * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  const double over = static_cast<double>(step - options.warmup_steps);
  const double u = std::min(1.0, over / static_cast<double>(std::max<std::int64_t>(1, steps - options.warmup_steps)));
  const auto decayed = [&](double f) { return options.lr * (options.min_lr_ratio + (1.0 - options.min_lr_ratio) * f); };
  switch (options.schedule) {
    case Schedule::kConstant:
      return options.lr;
    case Schedule::kLinear:
      return decayed(1.0 - u);
    case Schedule::kCosine:
      return decayed(0.5 * (1.0 + std::cos(std::numbers::pi * u)));
  }
  throw Error("there is no such learning-rate schedule");
}

Optimizer::Optimizer(const ParameterStore& parameters, const OptimizerOptions& options, const Ranks& ranks)
    : parameters_(parameters),
      options_(options),
      ranks_(ranks),
      shard_(ranks.ShardOf(parameters.count(), ranks.rank())),
      m_(shard_.Of(parameters.master()), parameters.kind()),
      v_(shard_.Of(parameters.master()), parameters.kind()) {
  SWARR_CHECK(!parameters.flat_gradients().empty(), "a model without gradients can't be trained");
  if (!ranks.alone()) {
    const std::int64_t of_others = ranks.rank() == 0 ? parameters.count() - shard_.end : 0;
    received_ =
        OwnedTensor(m_.view().dtype(), {std::max((ranks.size() - 1) * shard_.size(), of_others)}, parameters.kind());
  }
  for (const Parameter& p : parameters.all()) {
    const std::int64_t end = std::min(p.offset + p.size(), shard_.end) - shard_.begin;
    if (end <= (runs_.empty() ? 0 : runs_.back().end)) continue;
    const bool decays = p.var.value.rank() >= 2;
    if (runs_.empty() || runs_.back().decays != decays) runs_.push_back({.end = 0, .decays = decays});
    runs_.back().end = end;
  }
}

void Optimizer::MakeRoom() {
  if (ranks_.alone() || ranks_.rank() > 0) return;
  all_m_ = OwnedTensor(parameters_.master());
  all_v_ = OwnedTensor(parameters_.master());
}

// Of rank 0: where the other ranks' shards of one moment are, on their way.
Tensor Optimizer::RoomForOthers() const {
  return ranks_.rank() == 0 ? received_.view().Rows(0, parameters_.count() - shard_.end) : Tensor{};
}

void Optimizer::CollectMoment(const Context& ctx, const Tensor& own, const Tensor& all) const {
  const Tensor others = RoomForOthers();
  ranks_.ShardsToFirst(ctx, own, others);
  if (ranks_.rank() > 0) return;
  Copy(all.Rows(0, shard_.end), HostView(own, parameters_.kind()).view());
  Copy(all.Rows(shard_.end, all.size()), HostView(others, parameters_.kind()).view());
}

void Optimizer::DistributeMoment(const Context& ctx, const Tensor& own, const Tensor& all) const {
  const Tensor others = RoomForOthers();
  const auto write = [&](const Tensor& to, const Tensor& from) {
    const HostView host(to, parameters_.kind());
    Copy(host.view(), from);
    host.WriteBack();
  };
  if (ranks_.rank() == 0) {
    write(own, all.Rows(0, shard_.end));
    write(others, all.Rows(shard_.end, all.size()));
  }
  ranks_.ShardsFromFirst(ctx, own, others);
}

void Optimizer::Collect(const Context& ctx) {
  if (ranks_.alone()) return;
  MakeRoom();
  CollectMoment(ctx, m_.view(), all_m_.view());
  CollectMoment(ctx, v_.view(), all_v_.view());
  ranks_.SpreadShards(ctx, parameters_.master());
  ranks_.SpreadShards(ctx, parameters_.flat_gradients());
  Wait(ctx);
}

void Optimizer::Distribute(const Context& ctx) {
  if (ranks_.alone()) return;
  DistributeMoment(ctx, m_.view(), all_m_.view());
  DistributeMoment(ctx, v_.view(), all_v_.view());
  ranks_.FromFirst(ctx, parameters_.master());
  parameters_.RoundMaster(ctx);
  t_ = ranks_.GatherAll(std::vector{t_})[0];
  Wait(ctx);
  ReleaseCollected();
}

void Optimizer::NoteMemory(MemoryReport& report) const {
  report.Note("optimizer moments", m_.view().bytes() + v_.view().bytes());
  std::size_t sums = received_.view().bytes();
  for (const OwnedTensor& held : held_) sums += held.view().bytes();
  if (sums > 0) report.Note("sums of gradients", sums);
}

void Optimizer::SumGradients(const Context& ctx, int chunks, const std::function<void(int)>& compute) {
  const Tensor gradients = parameters_.flat_gradients();
  const ChunkRange own = ranks_.ChunksOf(chunks);
  while (static_cast<int>(held_.size()) < SumsHeld(own.size())) held_.emplace_back(gradients, parameters_.kind());
  const auto held = [&](int depth) { return held_[static_cast<std::size_t>(depth)].view(); };
  const auto hold = [&](int depth) {
    Copy(ctx, held(depth), gradients);
    FillZero(ctx, gradients);
  };
  const auto add = [&](int depth) { AddGradient(ctx, gradients, held(depth)); };
  SumChunks(own, compute, hold, add);
  ranks_.SumShards(ctx, gradients, chunks, received_.view());
}

double Optimizer::GradientNorm(const Context& ctx) const {
  const ArenaScope scope(*ctx.arena);
  const Tensor sums = ctx.arena->New(DType::kF64, {NormChunks(parameters_.count())});
  const auto of = [&](const Part& shard) { return sums.Rows(NormChunks(shard.begin), NormChunks(shard.end)); };
  SquaresOfChunks(ctx, of(shard_), shard_.Of(parameters_.flat_gradients()));
  ranks_.Spread(ctx, [&](int r) { return of(ranks_.ShardOf(parameters_.count(), r)); });
  return RootOfSum(ctx, sums);
}

void Optimizer::Step(const Context& ctx, double lr, double grad_norm) {
  const bool clip = options_.max_grad_norm > 0 && grad_norm > options_.max_grad_norm;
  const double scale = clip ? options_.max_grad_norm / grad_norm : 1.0;
  StepShard(ctx, {lr, ++t_, scale, options_.adamw});
  ranks_.SpreadShards(ctx, parameters_.values());
  FillZero(ctx, parameters_.flat_gradients());
}

void Optimizer::StepShard(const Context& ctx, const AdamWUpdate& update) const {
  const FlatParameters shard{shard_.Of(parameters_.master()), shard_.Of(parameters_.values()), m_.view(), v_.view(),
                             shard_.Of(parameters_.flat_gradients())};
  if (FusedAdamW(ctx, shard, runs_, update)) return;
  std::int64_t begin = 0;
  for (const DecayRun& run : runs_) {
    const auto part = [&](const Tensor& t) { return t.Rows(begin, run.end); };
    AdamWUpdate of_run = update;
    if (!run.decays) of_run.options.weight_decay = 0;
    AdamWStep(ctx, part(shard.master), part(shard.m), part(shard.v), part(shard.gradients), of_run);
    begin = run.end;
  }
  if (shard.values.raw() != shard.master.raw()) CastForward(ctx, shard.values, shard.master);
}

}  // namespace swarr
