// SPDX-License-Identifier: Apache-2.0
// Evaluation by generation: the only measure that counts here (a falling loss can go with zero accuracy).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "model/tokenizer.h"
#include "train/task.h"

namespace swarr {

struct EvaluateOptions {
  std::int64_t problems = 0;      // the first so many of the task; 0: all
  int samples = 1;                // completions per problem
  double temperature = 1.0;       // 0: greedy
  int max_completion_length = 0;  // tokens
  int slots = 128;                // sequences decoded at a time; results do not depend on it
  std::uint64_t seed = 0;
  std::uint32_t step = 0;  // separates the noise of evaluations at different times
};

struct EvaluatedCompletion {
  std::int64_t problem;
  std::string text;    // without special tokens
  std::string answer;  // the task's extraction
  int tokens;          // drawn, end of text included
  bool finished;
  double reward;
};

// options.samples completions of each problem, problem by problem.
std::vector<EvaluatedCompletion> Evaluate(Context& ctx, const Transformer& model, const Tokenizer& tokenizer,
                                          const Task& task, const EvaluateOptions& options);

// Over completions grouped by problem, `samples` each; a completion is correct if its reward is 1.
struct AccuracySummary {
  double accuracy;       // mean over all completions
  double pass_at_k;      // share of problems with a correct one among all k = samples
  double majority_at_k;  // share whose most frequent answer is right (ties: the one that came first)
  double mean_length;    // tokens
  double truncated;      // share that did not finish
};
AccuracySummary Summarize(const std::vector<EvaluatedCompletion>& completions, int samples);

}  // namespace swarr
