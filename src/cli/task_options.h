// SPDX-License-Identifier: Apache-2.0
// Which problems a command works on: a JSON Lines file, or a built-in task drawn afresh.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "model/config.h"
#include "model/tokenizer.h"
#include "model/transformer.h"
#include "task/jsonl_task.h"
#include "task/registry.h"

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
  RewardRule reward;          // its rule
  JsonlTask* file = nullptr;  // the same task, if it comes from a file
  std::string end_of_turn{};  // the token that ends its completions; empty: the model's end of text
};

// Adds a flag for the parameter.
void AddParameter(OptionSet& options, const TaskParameter& parameter);

struct TaskOptions {
  std::string data, task, eval_data, reward = "chain";  // eval_data: problems to evaluate on, where a command trains
  std::vector<BuiltInTask> built_in = BuiltInTasks();
  FieldNames fields;
  PromptOptions prompt;

  // --data, how its rows are read and put to the model, --task and the parameters of the built-in tasks, in groups of
  // their own.
  void AddTo(OptionSet& options, bool with_completions);
  // --reward, where answers are judged.
  void AddRewardTo(OptionSet& options);
  // The problems, of this split if the task is built in; rows of a file as the model in `model_dir` (may be empty)
  // wants to be prompted. Throws UsageError unless exactly one of --data and --task is given.
  LoadedTask Load(Split split, JsonlFields needed, std::uint64_t seed, const std::string& model_dir) const;
  // The built-in task of --task; with --data the one whose reward judges the file, or else the first. A new model
  // gets its tokenizer.
  const BuiltInTask& ChosenBuiltIn() const;
  // Whether all problems are a built-in task's.
  bool ReadsNoRows() const { return !task.empty() && data.empty() && eval_data.empty(); }
  // The problems of another file, read in the same way.
  LoadedTask LoadFile(const std::string& path, JsonlFields needed, const std::string& model_dir) const;
};

// Makes the end of the task's turns the model's end of text, if the task has turns.
void SetEndOfText(const LoadedTask& task, const Tokenizer& tokenizer, Transformer& model);

// A model that is to judge the same tokens as another, a teacher or a reference, and how a sentence names it.
struct SecondModel {
  const char* name;  // "teacher"
  std::string dir;
  const ModelConfig& config;
};
// Throws Error unless the second model has the first one's vocabulary, token by token, and the chat template that rows
// of a file are written by. `tokenizer`: that of the first, the model in `dir`.
void RequireSameTexts(const SecondModel& second, const std::string& dir, const ModelConfig& config,
                      const Tokenizer& tokenizer, const TaskOptions& task);

// Says on stderr how many rows of its file the task left out, and why; nothing if none was.
void ReportDropped(const LoadedTask& task);

// The tokens that a completion may take: `asked`, or if that is 0 the task's own limit, or what the model's context
// leaves beside the longest prompt. Rows whose prompt leaves no room for `asked`, or for one token, are dropped. Throws
// Error, naming the numbers, if a prompt and the completion don't fit.
int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config);

// The same for one prompt of `prompt_tokens`.
int CompletionLimit(int asked, std::int64_t prompt_tokens, const ModelConfig& config);

}  // namespace swarr
