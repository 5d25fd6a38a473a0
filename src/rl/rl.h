// SPDX-License-Identifier: Apache-2.0
// On-policy reinforcement learning: sample groups of completions from the current weights, score them, take one
// gradient step. Deliberately left out: several updates per rollout, a reference model, entropy bonuses; temperature is
// 1 and nothing is cut from the distribution, so that the sampler is the policy.
#pragma once

#include "rl/objective.h"
#include "train/run.h"
#include "train/task.h"

namespace swarr {

struct RlOptions {
  std::int64_t steps = 0;
  int prompts_per_step = 16;
  int num_generations = 8;         // completions per prompt: a group
  int max_completion_length = 0;   // tokens; a truncated completion is worth 0
  int micro_batch = 32;            // completions packed into one row of the training pass
  int slots = 128;                 // sequences decoded at a time; results do not depend on it
  bool checkpoint_blocks = false;  // gradient checkpointing
  ObjectiveOptions objective;
  std::uint64_t seed = 0;
  bool keep_completions = true;  // write completions/step-00000001.jsonl and so on into the output directory
};

// What a whole run has compared: the sampler's log-probabilities with those of the training pass, over all sampled
// tokens, those of skipped groups too. Exactly on-policy means a largest difference of exactly 0.
struct OnPolicyCheck {
  double max_abs_diff = 0;
  std::int64_t tokens = 0;
};

// Rows of metrics.jsonl (TRL's names): epoch, loss, learning_rate, grad_norm, entropy, reward, reward_std,
// frac_reward_zero_std (groups without spread: skipped in the backward), completions/mean_length,
// completions/clipped_ratio, kl (of the sampler from the trainer, by the k3 estimator), clip_ratio/region_mean,
// rollout_logprob_max_abs_diff, rollout_logprob_tokens, step_time, tokens_per_second, peak_memory_mb.
// num_tokens counts, as in SFT, the tokens that went through the training pass: prompts and completions of all samples.
OnPolicyCheck RunRl(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                    const RlOptions& options, Optimizer& optimizer, TrainingRun& run);

}  // namespace swarr
