// SPDX-License-Identifier: Apache-2.0
// Which problems a command works on: a JSON Lines file, or the chain task drawn afresh.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/options.h"
#include "model/config.h"
#include "model/tokenizer.h"
#include "rl/rewards.h"

namespace swarr {

struct LoadedTask {
  std::unique_ptr<Task> task;
  JsonlTask* file = nullptr;  // the same task, if it comes from a file
  // The chain problem behind problem `index`, if it is one and says so.
  std::function<std::optional<ChainProblem>(std::int64_t index)> chain_problem;
  int completion_limit = 0;  // tokens that a completion of this task can take; 0: unknown
};

struct TaskOptions {
  std::string data, task, reward = "chain";
  ChainOptions chain;

  // --data, --task and the chain task's ranges; --restate too where completions are imitated.
  void AddTo(OptionSet& options, bool with_completions);
  // --reward, where answers are judged.
  void AddRewardTo(OptionSet& options);
  // The problems, of this split if they are the chain task's. Throws UsageError unless exactly one of --data and --task
  // is given.
  LoadedTask Load(Split split, JsonlFields needed, std::uint64_t seed) const;
};

LoadedTask LoadJsonl(const std::string& path, JsonlFields needed, const std::string& reward);

// The tokens that a completion may take: `asked`, or if that is 0 the task's own limit, or what the model's context
// leaves beside the longest prompt. Throws Error, naming the numbers, if that prompt and the completion don't fit.
int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config);

// The same for one prompt of `prompt_tokens`.
int CompletionLimit(int asked, std::int64_t prompt_tokens, const ModelConfig& config);

}  // namespace swarr
