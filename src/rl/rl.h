// SPDX-License-Identifier: Apache-2.0
// Reinforcement learning: a step samples groups of completions from the current weights, scores them (rl/rollout.h),
// and takes num_iterations gradient steps on the objective (rl/objective.h), each over all that was sampled. What is
// saved is the state after a whole step, so a resume needs no rollout; the learning-rate schedule counts steps too.
// Deliberately left out: samplers that lag behind, and temperatures other than 1 or a cut distribution, so that the
// sampler is the policy.
#pragma once

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "rl/objective.h"
#include "task/task.h"
#include "train/optimizer.h"
#include "train/requirements.h"
#include "train/training_steps.h"

namespace swarr {

struct RlOptions {
  std::int64_t steps = 0;
  int prompts_per_step = 16;
  int num_generations = 8;        // completions per prompt: a group
  int num_iterations = 1;         // updates per step
  int max_completion_length = 0;  // tokens, from 1 (Task::completion_limit); a truncated completion is worth 0
  int micro_batch = 32;           // completions packed into one training pass
  int chunks = 1;  // of a step's groups, whose gradients are added along a tree: as many ranks can train (dist/ranks.h)
  int slots = 0;   // sequences decoded at a time (SlotsFor); results do not depend on it
  bool checkpoint_blocks = false;  // gradient checkpointing
  ObjectiveOptions objective;
  std::uint64_t seed = 0;
  bool keep_completions = true;  // hand the completions of each step to the run (completions/step-*.jsonl)
};

// What RunRl will hold in memory beside the model, its gradients and moments, and a reference. `prompt_tokens`: of the
// shortest prompt.
std::vector<MemoryPart> RlParts(const ModelConfig& config, DType dtype, Device device, int prompt_tokens,
                                const RlOptions& options);

// The comparison of the sampler's log-probabilities with those of the training pass. It is made at the first update of
// each step of a run, where the policy is still the sampler, over all tokens that the step trains on, with or without
// an advantage. Groups that dynamic sampling has dropped are left out, since no training pass reads them. Exactly
// on-policy means a largest difference of exactly 0. A resumed run compares in the steps that it makes itself: none
// where none is left.
struct OnPolicyCheck {
  double max_abs_diff = 0;
  std::int64_t tokens = 0;
  std::int64_t steps = 0;
};

// `reference`: the model that the KL refers to, with the same vocabulary; may be null where beta is 0.
//
// Records of metrics.jsonl (TRL's names), one for each step:
//   of all completions sampled, with the task's own rewards, before any shaping: reward, reward_std,
//     frac_reward_zero_std (groups without spread), completions/mean_length, completions/clipped_ratio
//   of the first update: entropy, rollout_logprob_max_abs_diff, rollout_logprob_tokens
//   means over the updates: loss, grad_norm, clip_ratio/region_mean
//   kl: with a reference, the mean over all sampled tokens of the objective's estimate of the KL of the sampling policy
//     from it; without one, the sampler's from the trainer's at the first update, by k3
//   num_updates: updates made; one whose gradient is 0 everywhere (no group had any spread) is not made
//   with dynamic sampling: dynamic_sampling/rounds, dynamic_sampling/dropped_ratio (of the groups sampled)
//   epoch (prompts_per_step prompts a step), learning_rate, step_time, tokens_per_second, peak_memory_mb
//   warnings: texts, on the steps where it turns out that nothing is learned any more (train/watch.h)
// num_tokens counts, as in SFT, the tokens that went through training passes: prompts and completions, once an update.
//
// Records of completions/step-*.jsonl, one for each completion: step, prompt, completion, answer, finished, reward, and
// advantage, or, where it differs from token to token, advantages; with a reference kl, the sum of the estimates over
// its tokens; with dynamic sampling dropped, whether its group was.
OnPolicyCheck RunRl(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                    const RlOptions& options, Optimizer& optimizer, TrainingSteps& run,
                    const Transformer* reference = nullptr);

}  // namespace swarr
