// SPDX-License-Identifier: Apache-2.0
#include "cli/task_options.h"

#include <algorithm>

namespace swarr {

void TaskOptions::AddTo(OptionSet& options, bool with_completions) {
  const std::string fields = with_completions ? "prompt, completion" : "prompt, answer";
  options.Add("data", data, "JSON Lines file of problems with the fields " + fields);
  options.Add("task", task, "instead of --data: chain, the built-in task, drawn afresh");
  options.Add("n-min", chain.n_min, "chain task: fewest steps of a problem");
  options.Add("n-max", chain.n_max, "chain task: most steps of a problem");
  if (with_completions) {
    options.Add("restate", chain.restate_probability, "chain task: probability of restating the facts before a step");
  }
}

void TaskOptions::AddRewardTo(OptionSet& options) {
  options.Add("reward", reward, "the rule that judges answers: chain");
}

LoadedTask TaskOptions::Load(Split split, JsonlFields needed, std::uint64_t seed) const {
  if (data.empty() == task.empty()) throw UsageError("give exactly one of --data FILE and --task chain");
  if (!data.empty()) return LoadJsonl(data, needed, reward);
  if (task != "chain") throw UsageError(Concat("unknown task '", task, "'; use chain, the only one so far"));
  ChainOptions options = chain;
  options.seed = seed;
  auto problems = std::make_unique<ChainTask>(split, options);
  const auto problem = [p = problems.get()](std::int64_t i) { return std::optional(p->problem(i)); };
  return {std::move(problems), nullptr, problem, ChainTokenLimit(chain.n_max)};
}

LoadedTask LoadJsonl(const std::string& path, JsonlFields needed, const std::string& reward) {
  auto rows = std::make_unique<JsonlTask>(path, needed, RewardByName(reward));
  JsonlTask* file = rows.get();
  // Rows that are only imitated may have fields of these names that mean something else.
  std::vector<std::optional<ChainProblem>> problems(static_cast<std::size_t>(file->size()));
  for (std::int64_t i = 0; needed.answer && i < file->size(); ++i) {
    try {
      problems[static_cast<std::size_t>(i)] = ChainProblemOf(file->row(i));
    } catch (const Error& e) {
      throw Error(Concat(file->Where(i), ": ", e.what()));
    }
  }
  const auto problem = [problems](std::int64_t i) { return problems[static_cast<std::size_t>(i)]; };
  return {std::move(rows), file, problem, 0};
}

int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config) {
  if (task.file != nullptr) task.file->CheckPrompts(tokenizer, config.max_positions - 1);
  std::size_t longest = 0;
  for (std::int64_t i = 0; i < task.task->size(); ++i) {
    longest = std::max(longest, tokenizer.Encode(task.task->Get(i, 0).prompt).size());
  }
  return CompletionLimit(asked > 0 ? asked : task.completion_limit, static_cast<std::int64_t>(longest), config);
}

int CompletionLimit(int asked, std::int64_t prompt_tokens, const ModelConfig& config) {
  const std::int64_t left = config.max_positions - prompt_tokens;
  SWARR_CHECK(left > 0, "a prompt of ", prompt_tokens, " tokens is longer than the model's context of ",
              config.max_positions, " leaves room for; shorten it");
  SWARR_CHECK(asked <= left, "a prompt of ", prompt_tokens, " tokens and a completion of ", asked,
              " don't fit the model's context of ", config.max_positions, "; ask for at most ", left, " new tokens");
  return asked > 0 ? asked : static_cast<int>(left);
}

}  // namespace swarr
