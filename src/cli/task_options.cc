// SPDX-License-Identifier: Apache-2.0
#include "cli/task_options.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "base/names.h"
#include "base/utf8.h"
#include "model/model_files.h"
#include "train/data.h"

namespace swarr {
namespace {

std::vector<std::string> NamesOf(const std::vector<BuiltInTask>& tasks) {
  std::vector<std::string> names;
  std::transform(tasks.begin(), tasks.end(), std::back_inserter(names), [](const auto& task) { return task.name; });
  return names;
}

}  // namespace

void AddParameter(OptionSet& options, const TaskParameter& parameter) {
  std::visit([&](auto* value) { options.Add(parameter.name, *value, parameter.help); }, parameter.value);
}

void PromptOptions::AddTemplateTo(OptionSet& options) {
  options
      .Add("template", chat_template, "how turns are written; plain is not at all, auto is as the model's files say")
      ->type_name("auto|" + OneOf(kNames<ChatFormat>));
  options.Add("system", system,
              "system message where a conversation has none; auto is the model family's, none is none");
  options.HaveNoEffect({"system"}, "with --template plain", [this] { return chat_template == "plain"; });
}

void PromptOptions::AddInstructionTo(OptionSet& options, bool with_completions) {
  options
      .Add("instruction", instruction,
           "what is said beside a problem: boxed (step by step, answer in a box), hash (answer after ####), "
           "question-answer (Question: ... Answer:)")
      ->type_name(OneOf(kNames<Instruction>));
  if (with_completions) {
    options.Add("strip-calculator-marks", strip_calculator_marks, "leave GSM8K's <<48/2=24>> out of completions");
  }
}

void PromptOptions::AddExamplesTo(OptionSet& options) {
  options.AddInput(
      "few-shot-data", few_shot_data,
      "JSON Lines file whose first rows are shown before each problem, with --instruction question-answer");
  options.Add("shots", shots, "how many of them", AtLeast(0));
}

ChatTemplate PromptOptions::MakeTemplate(const std::string& model_dir) const {
  ChatTemplate chat = ChatTemplateByName(chat_template, model_dir);
  if (system != "auto") chat.system = system == "none" ? "" : system;
  return chat;
}

PromptFormat PromptOptions::MakeFormat(const std::string& model_dir) const {
  PromptFormat format{.chat = MakeTemplate(model_dir),
                      .instruction = ParseName<Instruction>("instruction", instruction),
                      .strip_calculator_marks = strip_calculator_marks};
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
  options.Group("Problems");
  options.AddInput(
      "data", data,
      "JSON Lines file of problems: prompt and completion or answer, question and answer (GSM8K), problem and "
      "solution (MATH), messages; the first row decides");
  options.Add("prompt-field", fields.prompt,
              "field of the problem, instead of what the first row suggests; a.b is b in a");
  if (with_completions) options.Add("completion-field", fields.completion, "field of the text to imitate");
  options.Add("answer-field", fields.answer, "field of the gold answer");
  prompt.AddTemplateTo(options);
  prompt.AddInstructionTo(options, with_completions);
  options.Add("task", task, "instead of --data: a built-in task, drawn afresh")->type_name(OneOf(NamesOf(built_in)));
  options.HaveNoEffect({"prompt-field", "completion-field", "answer-field", "template", "system", "instruction",
                        "strip-calculator-marks", "few-shot-data", "lm-eval"},
                       "with --task, whose problems are its own", [this] { return ReadsNoRows(); });
  for (const BuiltInTask& t : built_in) {
    options.Group("Problems of --task " + t.name);
    for (const TaskParameter& p : t.parameters) {
      if (!with_completions && p.of_completions) continue;
      AddParameter(options, p);
      options.HaveNoEffect({p.name}, "with --data", [this] { return task.empty() && !data.empty(); });
      options.HaveNoEffect({p.name}, "with another --task", [this, &t] { return !task.empty() && task != t.name; });
    }
  }
}

void TaskOptions::AddRewardTo(OptionSet& options) {
  options.Group("Problems");
  options.Add("reward", reward, "the rule that judges answers")->type_name(OneOf(RewardNames()));
  options.HaveNoEffect({"reward"}, "with --task, which has its own rule",
                       [this] { return ReadsNoRows() && reward != ChosenBuiltIn().reward.name; });
}

LoadedTask TaskOptions::Load(Split split, JsonlFields needed, std::uint64_t seed, const std::string& model_dir) const {
  if (data.empty() == task.empty()) throw UsageError("give exactly one of --data FILE and --task NAME");
  if (!data.empty()) return LoadFile(data, needed, model_dir);
  const BuiltInTask& chosen = ChosenBuiltIn();
  return {.task = chosen.make(split, seed), .reward = chosen.reward};
}

LoadedTask TaskOptions::LoadFile(const std::string& path, JsonlFields needed, const std::string& model_dir) const {
  const PromptFormat format = prompt.MakeFormat(model_dir);
  const RewardRule rule = RewardByName(reward);
  auto rows = std::make_unique<JsonlTask>(path, needed, rule, fields, format);
  JsonlTask* file = rows.get();
  return {.task = std::move(rows), .reward = rule, .file = file, .end_of_turn = std::string(format.chat.end())};
}

const BuiltInTask& TaskOptions::ChosenBuiltIn() const {
  const std::string& name = task.empty() ? reward : task;
  const auto found = std::find_if(built_in.begin(), built_in.end(), [&](const auto& t) { return t.name == name; });
  if (found != built_in.end()) return *found;
  if (task.empty()) return built_in.front();
  throw UsageError(Concat("unknown task '", task, "'; use ", Listed(NamesOf(built_in))));
}

void SetEndOfText(const LoadedTask& task, const Tokenizer& tokenizer, Transformer& model) {
  if (!task.end_of_turn.empty()) model.SetEndOfText(SingleToken(tokenizer, task.end_of_turn));
}

void RequireSameTexts(const SecondModel& second, const std::string& dir, const ModelConfig& config,
                      const Tokenizer& tokenizer, const TaskOptions& task) {
  if (second.dir == dir) return;
  SWARR_CHECK(second.config.vocab == config.vocab, "the ", second.name, " has a vocabulary of ", second.config.vocab,
              " tokens, the model one of ", config.vocab, "; both must have the same");
  const Tokenizer other = LoadTokenizer(second.dir, second.config);
  SWARR_CHECK(other.vocab_size() == tokenizer.vocab_size(), "the ", second.name, "'s tokenizer has ",
              other.vocab_size(), " tokens, the model's ", tokenizer.vocab_size(), "; both must be the same");
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    SWARR_CHECK(other.Piece(id) == tokenizer.Piece(id), "token ", id, " is '", Excerpt(other.Piece(id)), "' to the ",
                second.name, " and '", Excerpt(tokenizer.Piece(id)), "' to the model; both must have one tokenizer");
  }
  if (task.data.empty()) return;  // a built-in task has no turns
  const ChatTemplate theirs = task.prompt.MakeTemplate(second.dir), ours = task.prompt.MakeTemplate(dir);
  SWARR_CHECK(theirs.format == ours.format && theirs.system == ours.system, "the ", second.name, "'s chat template is ",
              Name(theirs.format), " and the model's ", Name(ours.format),
              theirs.format == ours.format ? " with another system line" : "",
              "; both must be prompted alike: set --template and --system");
}

void ReportDropped(const LoadedTask& task) {
  if (task.file == nullptr || task.file->dropped().empty()) return;
  std::string text = Concat("using ", task.file->size(), " problems; left out:");
  for (const DroppedRows& d : task.file->dropped()) {
    text += Concat("\n  ", d.count, " for ", d.reason, " (", d.first, ")");
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

int CompletionLimit(int asked, const LoadedTask& task, const Tokenizer& tokenizer, const ModelConfig& config) {
  const int wanted = asked > 0 ? asked : task.task->completion_limit();
  const int room = config.max_positions - std::max(wanted, 1);
  if (task.file != nullptr && room > 0) task.file->DropLongPrompts(tokenizer, room);
  return CompletionLimit(wanted, LongestPrompt(*task.task, tokenizer), config);
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
