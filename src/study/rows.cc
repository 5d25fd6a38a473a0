// SPDX-License-Identifier: Apache-2.0
#include "study/rows.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "base/check.h"
#include "task/jsonl_task.h"
#include "task/numbers.h"

namespace swarr {
namespace {

std::unique_ptr<JsonlTask> Read(const std::filesystem::path& file) {
  auto task = std::make_unique<JsonlTask>(file, JsonlFields{.completion = true, .answer = true}, RewardByName("math"));
  for (std::int64_t i = 0; i < task->size(); ++i) {
    const nlohmann::ordered_json row = task->Row(i, 0);
    for (const char* field : {"prompt", "completion"}) {
      SWARR_CHECK(row.contains(field) && row[field].is_string(), task->Where(i), ": the field '", field,
                  "' is no text, which a study's rows need");
    }
  }
  return task;
}

// What is known of the problems that arms are measured on.
struct Evaluated {
  int fewest = kMostSolutionLines, most = 1;  // lines of a solution
  double guess = 0;                           // share of the commonest answer
};

Evaluated Look(const JsonlTask& task) {
  Evaluated seen;
  std::map<std::string, std::int64_t> answers;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    const Example e = task.Get(i, 0);
    const int lines = std::min(SolutionLines(e.completion), kMostSolutionLines);
    seen.fewest = std::min(seen.fewest, lines);
    seen.most = std::max(seen.most, lines);
    const std::int64_t times = ++answers[e.answer];
    seen.guess = std::max(seen.guess, static_cast<double>(times) / static_cast<double>(task.size()));
  }
  return seen;
}

std::string Describe(const std::string& directory, int window) {
  return Concat("The task: word problems of ", directory,
                ", solved a line at a time. Their numbers slide out of the window of ", window,
                " tokens; a trace may write a bracket before a line, of the numbers that it and later lines still "
                "need.");
}

}  // namespace

std::filesystem::path RowsFile(const std::filesystem::path& directory, Split split, double carry) {
  return directory / (split == Split::kSft ? Concat("sft-", carry, ".jsonl") : Concat(Name(split), ".jsonl"));
}

void CheckRows(const std::filesystem::path& file, Split split, const RowLimits& limits) {
  const std::unique_ptr<JsonlTask> task = Read(file);
  for (std::int64_t i = 0; i < task->size(); ++i) {
    const Example e = task->Get(i, 0);
    const std::int64_t prompt = std::ssize(limits.tokenizer.EncodePrompt(e.prompt));
    if (split == Split::kSft) {  // end of text is predicted, never read
      const std::int64_t tokens = prompt + std::ssize(limits.tokenizer.Encode(e.completion));
      SWARR_CHECK(tokens <= limits.context, task->Where(i), ": prompt and completion have ", tokens,
                  " tokens, and the base model reads ", limits.context, "; shorten the row or leave it out");
    } else {
      SWARR_CHECK(prompt + limits.completion_limit <= limits.context, task->Where(i), ": the prompt's ", prompt,
                  " tokens and up to ", limits.completion_limit,
                  " of a completion (completion_limit) are more than the ", limits.context,
                  " that the base model reads; shorten the row, leave it out, or lower completion_limit");
    }
  }
}

BuiltInTask RowsOf(const std::string& where, nlohmann::ordered_json& json) {
  SWARR_CHECK(json.contains("directory") && json["directory"].is_string(), where,
              " has no field 'directory', which holds sft-SHARE.jsonl, rl.jsonl and eval.jsonl");
  const std::string directory = json["directory"];
  json.erase("directory");
  const std::filesystem::path dir = directory;
  const Evaluated seen = Look(*Read(dir / "eval.jsonl"));
  const auto carry = std::make_shared<double>(0.0);
  BuiltInTask task{
      .name = std::string(kRowsTask),
      .tokenizer = {},
      .parameters = {{"carry", carry.get(), "share of solutions that write brackets", /*of_completions=*/true}},
      .make =
          [dir, carry](Split split, std::uint64_t) {
            if (*carry < 0 || *carry > 1) {
              throw UsageError(Concat("carry, a share of solutions, is ", *carry, "; give one between 0 and 1."));
            }
            return Read(RowsFile(dir, split, *carry));
          },
      .reward = RewardByName("math"),
      .view = {.title = "Word problems from files",
               .step = "line",
               .describe = [directory](int window) { return Describe(directory, window); },
               .sizes = [seen] { return std::pair(seen.fewest, seen.most); },
               .repeat_rate = [carry] { return *carry; }}};
  task.reward.traces = NumberTraces(seen.guess);
  return task;
}

}  // namespace swarr
