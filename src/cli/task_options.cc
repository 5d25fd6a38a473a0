// SPDX-License-Identifier: Apache-2.0
#include "cli/task_options.h"

#include <algorithm>
#include <cstdio>

namespace swarr {

void PromptOptions::AddTemplateTo(OptionSet& options) {
  options.Add(
      "template", chat_template,
      "how turns are written: plain (not at all), chatml, qwen3, qwen3-thinking, or auto: as the model's files say");
  options.Add("system", system,
              "system message where a conversation has none; auto is the model family's, none is none");
}

void PromptOptions::AddInstructionTo(OptionSet& options, bool with_completions) {
  options.Add("instruction", instruction,
              "what is said beside a problem: none, boxed (step by step, answer in a box), hash (answer after ####), "
              "question-answer (Question: ... Answer:)");
  if (with_completions) {
    options.Add("strip-calculator-marks", strip_calculator_marks, "leave GSM8K's <<48/2=24>> out of completions");
  }
}

void PromptOptions::AddExamplesTo(OptionSet& options) {
  options.Add("few-shot-data", few_shot_data,
              "JSON Lines file whose first rows are shown before each problem, with --instruction question-answer");
  options.Add("shots", shots, "how many of them")->check(AtLeast(0));
}

ChatTemplate PromptOptions::MakeTemplate(const std::string& model_dir) const {
  ChatTemplate chat = ChatTemplateByName(chat_template, model_dir);
  if (system != "auto") chat.system = system == "none" ? "" : system;
  return chat;
}

PromptFormat PromptOptions::MakeFormat(const std::string& model_dir) const {
  PromptFormat format{MakeTemplate(model_dir), ParseInstruction(instruction), {}, strip_calculator_marks};
  if (few_shot_data.empty() || shots == 0) return format;
  if (format.instruction != Instruction::kQuestionAnswer) {
    throw UsageError("--few-shot-data gives examples for --instruction question-answer alone");
  }
  const JsonlTask rows(few_shot_data, {.completion = true}, {});
  SWARR_CHECK(rows.size() >= shots, few_shot_data, " holds ", rows.size(), " worked examples where --shots asks for ",
              shots);
  for (int i = 0; i < shots; ++i) format.examples.push_back({rows.Get(i, 0).prompt, rows.Get(i, 0).completion});
  return format;
}

void TaskOptions::AddTo(OptionSet& options, bool with_completions) {
  options.Add("data", data,
              "JSON Lines file of problems: prompt and completion or answer, question and answer (GSM8K), problem and "
              "solution (MATH), messages; the first row decides");
  options.Add("prompt-field", fields.prompt,
              "field of the problem, instead of what the first row suggests; a.b is b in a");
  if (with_completions) options.Add("completion-field", fields.completion, "field of the text to imitate");
  options.Add("answer-field", fields.answer, "field of the gold answer");
  prompt.AddTemplateTo(options);
  prompt.AddInstructionTo(options, with_completions);
  options.Add("task", task, "instead of --data: chain, the built-in task, drawn afresh");
  options.Add("n-min", chain.n_min, "chain task: fewest steps of a problem");
  options.Add("n-max", chain.n_max, "chain task: most steps of a problem");
  if (with_completions) {
    options.Add("restate", chain.restate_probability, "chain task: probability of restating the facts before a step");
  }
}

void TaskOptions::AddRewardTo(OptionSet& options) {
  options.Add("reward", reward, Concat("the rule that judges answers: ", kRewardNames));
}

LoadedTask TaskOptions::Load(Split split, JsonlFields needed, std::uint64_t seed, const std::string& model_dir) const {
  if (data.empty() == task.empty()) throw UsageError("give exactly one of --data FILE and --task chain");
  if (!data.empty()) return LoadFile(data, needed, model_dir);
  if (task != "chain") throw UsageError(Concat("unknown task '", task, "'; use chain, the only one so far"));
  ChainOptions options = chain;
  options.seed = seed;
  auto problems = std::make_unique<ChainTask>(split, options);
  const auto problem = [p = problems.get()](std::int64_t i) { return std::optional(p->problem(i)); };
  return {std::move(problems), nullptr, problem, ChainTokenLimit(chain.n_max)};
}

LoadedTask TaskOptions::LoadFile(const std::string& path, JsonlFields needed, const std::string& model_dir) const {
  const PromptFormat format = prompt.MakeFormat(model_dir);
  auto rows = std::make_unique<JsonlTask>(path, needed, RewardByName(reward), fields, format);
  JsonlTask* file = rows.get();
  const auto problem_of = [file](std::int64_t i) {
    try {
      return ChainProblemOf(file->row(i));
    } catch (const Error& e) {
      throw Error(Concat(file->Where(i), ": ", e.what()));
    }
  };
  // Rows that are only imitated, or judged by another rule, may have fields of these names that mean something else.
  const bool chain_rows = needed.answer && reward == "chain";
  for (std::int64_t i = 0; chain_rows && i < file->size(); ++i) problem_of(i);
  const auto problem = [=](std::int64_t i) { return chain_rows ? problem_of(i) : std::nullopt; };
  return {std::move(rows), file, problem, 0, std::string(format.chat.end())};
}

void EndTextsAs(const LoadedTask& task, const Tokenizer& tokenizer, Transformer& model) {
  if (!task.end_of_turn.empty()) model.SetEndOfText(SingleToken(tokenizer, task.end_of_turn));
}

void ReportDropped(const LoadedTask& task) {
  if (task.file == nullptr || task.file->dropped().empty()) return;
  std::string text = Concat("using ", task.file->size(), " problems; left out:");
  for (const DroppedRows& d : task.file->dropped())
    text += Concat("\n  ", d.count, " for ", d.reason, " (", d.first, ")");
  std::fprintf(stderr, "%s\n", text.c_str());
}

int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config) {
  const int wanted = asked > 0 ? asked : task.completion_limit;
  const int room = config.max_positions - std::max(wanted, 1);
  if (task.file != nullptr && room > 0) task.file->DropLongPrompts(tokenizer, room);
  std::size_t longest = 0;
  for (std::int64_t i = 0; i < task.task->size(); ++i) {
    longest = std::max(longest, tokenizer.EncodePrompt(task.task->Get(i, 0).prompt).size());
  }
  return CompletionLimit(wanted, static_cast<std::int64_t>(longest), config);
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
