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
#include "model/transformer.h"
#include "task/rewards.h"

namespace swarr {

// How conversations become text.
struct PromptOptions {
  std::string chat_template = "auto", system = "auto", instruction = "none";
  bool strip_calculator_marks = false;
  std::string few_shot_data;
  int shots = 5;

  // --template and --system; `chat_template` as it is now is the default.
  void AddTemplateTo(OptionSet& options);
  // --instruction and, where completions are imitated, --strip-calculator-marks.
  void AddInstructionTo(OptionSet& options, bool with_completions);
  // --few-shot-data and --shots.
  void AddExamplesTo(OptionSet& options);
  // The template of that name for the model in `model_dir`, with the system line asked for.
  ChatTemplate MakeTemplate(const std::string& model_dir) const;
  PromptFormat MakeFormat(const std::string& model_dir) const;
};

struct LoadedTask {
  std::unique_ptr<Task> task;
  JsonlTask* file = nullptr;  // the same task, if it comes from a file
  // The chain problem behind problem `index`, if it is one and says so.
  std::function<std::optional<ChainProblem>(std::int64_t index)> chain_problem;
  int completion_limit = 0;   // tokens that a completion of this task can take; 0: unknown
  std::string end_of_turn{};  // the token that ends its completions; empty: the model's end of text
};

struct TaskOptions {
  std::string data, task, reward = "chain";
  ChainOptions chain;
  FieldNames fields;
  PromptOptions prompt;

  // --data, how its rows are read and put to the model, --task and the chain task's ranges; --restate too where
  // completions are imitated.
  void AddTo(OptionSet& options, bool with_completions);
  // --reward, where answers are judged.
  void AddRewardTo(OptionSet& options);
  // The problems, of this split if they are the chain task's; rows of a file as the model in `model_dir` (may be empty)
  // wants to be prompted. Throws UsageError unless exactly one of --data and --task is given.
  LoadedTask Load(Split split, JsonlFields needed, std::uint64_t seed, const std::string& model_dir) const;
  // The problems of another file, read in the same way.
  LoadedTask LoadFile(const std::string& path, JsonlFields needed, const std::string& model_dir) const;
};

// Makes `model` end texts as the task's completions end.
void EndTextsAs(const LoadedTask& task, const Tokenizer& tokenizer, Transformer& model);

// Says on stderr how many rows of its file the task left out, and why; nothing if none was.
void ReportDropped(const LoadedTask& task);

// The tokens that a completion may take: `asked`, or if that is 0 the task's own limit, or what the model's context
// leaves beside the longest prompt. Rows whose prompt leaves no room for `asked`, or for one token, are dropped. Throws
// Error, naming the numbers, if a prompt and the completion don't fit.
int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config);

// The same for one prompt of `prompt_tokens`.
int CompletionLimit(int asked, std::int64_t prompt_tokens, const ModelConfig& config);

}  // namespace swarr
