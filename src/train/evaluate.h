// SPDX-License-Identifier: Apache-2.0
// Evaluation by generation, the only measure that counts here: the loss can fall while the accuracy stays at zero.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dist/ranks.h"
#include "model/decoder.h"
#include "model/tokenizer.h"
#include "task/task.h"
#include "tensor/philox.h"
#include "train/requirements.h"

namespace swarr {

struct EvaluateOptions {
  std::int64_t problems = 0;      // how many, from the task's first on; 0: all
  int samples = 1;                // completions per problem
  double temperature = 1.0;       // 0: greedy
  int max_completion_length = 0;  // tokens, at least 1; Task::completion_limit may tell
  int slots = 0;                  // sequences decoded at a time (SlotsFor); results do not depend on it
  std::uint64_t seed = 0;
  std::vector<std::string> stop_texts = {};  // a completion also ends before the first of these in its text
  std::uint32_t step = 0;                    // separates the noise of evaluations at different times
  Purpose purpose = Purpose::kEvaluate;      // separates it from the noise of what is sampled to be learned from
  // Called when a completion has ended, with how many have and how many there will be; one call at a time. Of several
  // ranks each tells of its own.
  std::function<void(std::int64_t, std::int64_t)> on_progress = {};
  std::function<bool()> stop = {};  // asked in every step of decoding, by several threads
  Ranks ranks = {};                 // that share out the problems; all get all results
};

struct EvaluatedCompletion {
  std::int64_t problem;
  std::string text;    // without special tokens, and up to a stop text
  std::string answer;  // what the task extracts
  Completion drawn;    // the tokens, end of text included, also those after a stop text
  bool finished;       // by end of text or a stop text
  double reward;

  int tokens() const { return static_cast<int>(drawn.tokens.size()); }
};

// How many problems are evaluated.
std::int64_t ProblemsOf(const Task& task, const EvaluateOptions& options);

// What Evaluate will hold in memory beside the model.
std::vector<MemoryPart> EvaluateParts(const ModelConfig& config, DType dtype, Device device, const Task& task,
                                      const EvaluateOptions& options);

// options.samples completions for each problem, problem by problem. Once options.stop has returned true: those of the
// first problems, up to the first that is not complete; what is complete behind it would favour short completions.
std::vector<EvaluatedCompletion> Evaluate(Context& ctx, const Transformer& model, const Tokenizer& tokenizer,
                                          const Task& task, const EvaluateOptions& options);

// |log p by the sampler - log p by the training pass| of all tokens drawn. Both are 0 under one attention (P8).
struct LogprobGap {
  double mean = 0, largest = 0;
  std::int64_t tokens = 0;
};
// What the decoder recorded against a training pass over the same tokens with the attention that the model has now.
LogprobGap CompareWithTraining(Context& ctx, const Transformer& model, const Tokenizer& tokenizer, const Task& task,
                               const std::vector<EvaluatedCompletion>& completions);

// Over completions grouped by problem, `samples` each; a completion is correct if its reward is 1.
struct AccuracySummary {
  double accuracy;       // mean over all completions
  double majority_at_k;  // share whose most frequent answer is right (ties: the one that came first), of k = samples
  double mean_length;    // tokens
  double truncated;      // share that did not finish
  double extracted;      // share that gives an answer, right or wrong
};
AccuracySummary Summarize(const std::vector<EvaluatedCompletion>& completions, int samples);

// The probability that k of n samples drawn without replacement include one of the c correct ones,
//   1 - C(n - c, k) / C(n, k),
// which is unbiased for drawing k afresh (M. Chen et al., "Evaluating Large Language Models Trained on Code", 2021,
// section 2.1). Throws Error unless 0 <= c <= n and 1 <= k <= n.
double PassAtK(int n, int c, int k);
// The mean of PassAtK over problems with `samples` completions each.
double PassAtK(const std::vector<EvaluatedCompletion>& completions, int samples, int k);

// The share of completions that `rule` finds right. A cut text is judged as it stands, not as wrong, which is how
// lm-evaluation-harness computes its exact_match.
double ShareRight(const std::vector<EvaluatedCompletion>& completions, const Task& task, const RewardRule& rule);

}  // namespace swarr
