// SPDX-License-Identifier: Apache-2.0
// What a step of RL learns from: groups of completions that the current weights have sampled, with their rewards and
// their log-probabilities under the reference model. All of it is a pure function of the weights, the seed and the
// step.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "rl/rl.h"
#include "train/data.h"

namespace swarr {

// One sampled completion and what became of it.
struct Trajectory {
  Example example;
  Document document;               // prompt and completion tokens, as the training pass reads them
  std::vector<double> old_logp{};  // of the completion tokens, recorded by the sampler
  std::vector<double> ref_logp{};  // of the same tokens under the reference model, if there is one
  std::string text{};
  bool finished = false;
  double reward = 0;
  std::vector<double> advantages{};  // of the completion tokens; none of a dropped group
  double weight = 0;

  int length() const { return static_cast<int>(old_logp.size()); }
};

struct Rollout {
  std::vector<Trajectory> kept;     // to be trained on: whole groups, num_generations each
  std::vector<Trajectory> dropped;  // groups that dynamic sampling has replaced
  int rounds = 0;                   // of sampling
};

// Dynamic sampling (DAPO) gives up after this many rounds and trains on the groups that it has.
constexpr int kMaxRounds = 10;

// Thrown by Sampler::Sample when it is to stop.
struct RolloutStopped : Error {
  using Error::Error;
};

class Sampler {
 public:
  // `reference` may be null. Keeps references to all arguments but the ranks, which share out the sampling: what Sample
  // gives, it gives on all of them.
  Sampler(const Transformer& model, const Transformer* reference, const Tokenizer& tokenizer, const Task& task,
          const RlOptions& options, const Ranks& ranks = {});

  // prompts_per_step groups, with advantages and weights. With dynamic sampling, round after round samples as many
  // prompts as groups are missing and drops the groups whose rewards (the task's own, unshaped) have no spread; there
  // may be fewer groups in the end. Step s then owns positions [s, s + 1) * kMaxRounds * prompts_per_step of the order
  // of problems, and round k the k-th part of them. `stop`, asked in every step of decoding and by several threads,
  // ends it with RolloutStopped.
  Rollout Sample(Context& ctx, std::int64_t step, const std::function<bool()>& stop);

 private:
  // `groups_of`: how many groups of each problem the step has sampled so far.
  std::vector<Trajectory> SampleRound(Context& ctx, std::int64_t step, int round, int prompts,
                                      std::map<std::int64_t, int>& groups_of, const std::function<bool()>& stop);
  void AddReference(Context& ctx, std::vector<Trajectory>& sampled) const;
  // Moves each group to the kept ones or, if dynamic sampling drops it, to the dropped ones.
  void KeepOrDrop(std::vector<Trajectory> sampled, Rollout& rollout) const;
  void AssignAdvantages(std::vector<Trajectory>& kept) const;
  int MaxRounds() const { return options_.objective.dynamic_sampling ? kMaxRounds : 1; }

  const Transformer* reference_;
  const Tokenizer& tokenizer_;
  const Task& task_;
  const RlOptions& options_;
  Ranks ranks_;
  ProblemOrder order_;
  Decoder decoder_;
};

// A forward pass over the documents of trajectories, waited for.
PackedPass ForwardTrajectories(Context& ctx, const Transformer& model, std::span<const Trajectory* const> batch,
                               bool checkpoint_blocks);
// Of the scored rows, the one that predicts the first completion token of trajectory t, which is document d of the
// pass.
std::int64_t FirstRow(const PackedPass& pass, std::size_t d, const Trajectory& t);
// The values of its completion tokens, out of one value for each scored row of the pass.
std::vector<double> OfCompletion(const PackedPass& pass, std::size_t d, const Trajectory& t, const Tensor& values);

}  // namespace swarr
