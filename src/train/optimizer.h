// SPDX-License-Identifier: Apache-2.0
// AdamW over a model's parameters, gradient clipping, and the learning-rate schedule.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/names.h"
#include "dist/ranks.h"
#include "model/parameters.h"
#include "tensor/fused/adamw.h"

namespace swarr {

enum class Schedule : std::uint8_t { kConstant, kLinear, kCosine };
template <>
inline constexpr std::array kNames<Schedule> = {"constant", "linear", "cosine"};
inline Schedule ParseSchedule(const std::string& name) { return ParseName<Schedule>("learning-rate schedule", name); }

struct OptimizerOptions {
  double lr = 1e-3;  // peak learning rate
  Schedule schedule = Schedule::kCosine;
  std::int64_t warmup_steps = 0;  // the rate rises linearly to lr over these
  double min_lr_ratio = 0.1;      // linear and cosine end at min_lr_ratio * lr
  double max_grad_norm = 1.0;     // gradients are scaled down to this global norm; 0: never
  AdamWOptions adamw;             // weight decay applies to matrices, not to norms and biases
};

// The rate of step 0, 1, ... of `steps`: lr (step + 1) / warmup at first; then, with u in [0, 1] the share of the steps
// after the warm-up that are over, lr (r + (1 - r) f(u)), r = min_lr_ratio, f = 1, 1 - u or (1 + cos(pi u)) / 2.
double LearningRate(const OptimizerOptions& options, std::int64_t step, std::int64_t steps);

// AdamW on as many ranks as train together. Each has the moments of its own shard alone; it updates the masters of that
// shard, and all get all values. Alone a rank has one shard, which is all.
class Optimizer {
 public:
  Optimizer(const ParameterStore& parameters, const OptimizerOptions& options, const Ranks& ranks = {});

  const Ranks& ranks() const { return ranks_; }

  // The gradient of a step, which is the sum of so many chunks: compute(chunk) adds a chunk's to the model's, for each
  // chunk that is this rank's. Then the ranks add theirs up, each its shard. Throws Error if a rank would have no
  // chunk.
  void SumGradients(const Context& ctx, int chunks, const std::function<void(int)>& compute);
  // The global norm of the gradients as they stand. The processor waits for it.
  double GradientNorm(const Context& ctx) const;
  // Clips by `grad_norm` (GradientNorm's result, found finite), applies the gradients and zeroes them.
  void Step(const Context& ctx, double lr, double grad_norm);

  // Rank 0's room for all moments, where a checkpoint may be read as that of one rank alone: on the host, since a
  // device holds its shard alone. Then all ranks call Distribute, which gives them what is there, and rank 0's weights.
  void MakeRoom();
  void Distribute(const Context& ctx);
  // All ranks call it: rank 0 then has all masters, sums of gradients and moments, to be looked at and written, until
  // it lets the moments go.
  void Collect(const Context& ctx);
  void ReleaseCollected() {
    all_m_ = {};
    all_v_ = {};
  }

  void NoteMemory(MemoryReport& report) const;

  const OptimizerOptions& options() const { return options_; }
  // Of all parameters, alone or when collected; else of the shard.
  const Tensor& first_moment() const { return all_m_.view().empty() ? m_.view() : all_m_.view(); }
  const Tensor& second_moment() const { return all_v_.view().empty() ? v_.view() : all_v_.view(); }
  MemoryKind moments_kind() const { return all_m_.view().empty() ? parameters_.kind() : MemoryKind::kHost; }
  std::int64_t steps_taken() const { return t_; }
  void set_steps_taken(std::int64_t t) { t_ = t; }

 private:
  void StepShard(const Context& ctx, const AdamWUpdate& update) const;
  Tensor RoomForOthers() const;
  void CollectMoment(const Context& ctx, const Tensor& own, const Tensor& all) const;
  void DistributeMoment(const Context& ctx, const Tensor& own, const Tensor& all) const;

  const ParameterStore& parameters_;
  OptimizerOptions options_;
  Ranks ranks_;
  Part shard_;
  std::vector<DecayRun> runs_;     // parameters of the shard, side by side, that decay alike
  OwnedTensor m_, v_;              // of the shard
  std::vector<OwnedTensor> held_;  // sums of chunks that wait for others
  OwnedTensor received_;           // other ranks' sums of the shard; rank 0's also their shards of a moment
  OwnedTensor all_m_, all_v_;      // rank 0's, on the host, while it has all
  std::int64_t t_ = 0;
};

}  // namespace swarr
