// SPDX-License-Identifier: Apache-2.0
#include "task/jsonl_task.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/files.h"

namespace swarr {

JsonlTask::JsonlTask(const std::filesystem::path& path, JsonlFields needed, RewardRule rule, const FieldNames& names,
                     const PromptFormat& format)
    : path_(path), rule_(std::move(rule)) {
  std::optional<RowSchema> schema;
  ForEachJsonLine(path, [&](int line, const nlohmann::json& fields, std::string_view text) {
    SWARR_CHECK(fields.is_object(),
                "a row must be an object like {\"prompt\": ..., \"completion\": ..., \"answer\": ...}");
    if (!schema) schema.emplace(fields, names);
    std::vector<DataRow> rows = schema->Read(fields, text, needed);
    if (needed.answer) rows.erase(rows.begin(), rows.end() - 1);  // the gold answer is the last turn's
    for (DataRow& row : rows) {
      Problem problem{.line = line, .fields = fields};
      const auto [reason, sentence] = WhyDropped(row, needed, format);
      if (!reason.empty()) {
        Drop(reason, Where(problem), sentence);
        continue;
      }
      problem.example = {format.Prompt(row.prompt), row.completion, row.answer};
      if (!row.prompt.empty()) {
        SWARR_CHECK(!problem.example.prompt.empty(), "the prompt is empty; it needs at least one token");
        problem.example.completion = format.Completion(row.completion);
      }
      // Rows that are only imitated may have fields of the same names that mean something else.
      if (needed.answer && rule_.check_row) rule_.check_row(fields);
      problem.conversation = std::move(row.prompt);
      problems_.push_back(std::move(problem));
    }
  });
  SWARR_CHECK(schema.has_value(), path.string(), " holds no problem; it needs at least one line of JSON");
  CheckAnyLeft();
}

std::pair<std::string, std::string> JsonlTask::WhyDropped(const DataRow& row, JsonlFields needed,
                                                          const PromptFormat& format) const {
  if (needed.completion && row.completion.empty()) return {"no completion", "there is no completion to imitate"};
  if (needed.answer && row.answer.empty()) return {"no answer", "there is no gold answer to compare with"};
  if (needed.answer) {
    try {
      rule_.check_gold(row.answer);
    } catch (const Error& e) {
      return {Concat("answers that the reward ", rule_.name, " can't compare with"), e.what()};
    }
  }
  if (row.prompt.empty()) return {};  // plain text may well be a conversation with all its tokens
  std::string_view token = format.chat.FindToken(row.completion);
  for (const Message& message : row.prompt) {
    if (token.empty()) token = format.chat.FindToken(message.content);
  }
  if (token.empty()) return {};
  return {"tokens of the chat template in a text",
          Concat("the text holds ", token, ", which the model would take for the bounds of a turn")};
}

void JsonlTask::Drop(const std::string& reason, const std::string& where, const std::string& sentence) {
  const auto known = std::ranges::find(dropped_, reason, &DroppedRows::reason);
  if (known != dropped_.end()) {
    ++known->count;
  } else {
    dropped_.push_back({reason, 1, Concat(where, ": ", sentence)});
  }
}

void JsonlTask::CheckAnyLeft() const {
  if (!problems_.empty()) return;
  std::int64_t count = 0;
  for (const DroppedRows& d : dropped_) count += d.count;
  throw Error(Concat(dropped_.front().first, "; none of the ", count, " problems of the file can be used"));
}

const JsonlTask::Problem& JsonlTask::At(std::int64_t index) const {
  SWARR_CHECK(index >= 0 && index < size(), path_.string(), ": problem ", index, " was asked for, and there are ",
              size());
  return problems_[static_cast<std::size_t>(index)];
}

nlohmann::ordered_json JsonlTask::Prompt(std::int64_t index) const {
  const std::vector<Message>& conversation = At(index).conversation;
  if (conversation.size() == 1 && conversation[0].role == "user") return conversation[0].content;
  auto messages = nlohmann::ordered_json::array();
  for (const auto& [role, content] : conversation) messages.push_back({{"role", role}, {"content", content}});
  return messages;
}

std::string JsonlTask::Where(const Problem& problem) const { return Concat(path_.string(), ":", problem.line); }

void JsonlTask::DropLong(const Tokenizer& tokenizer, int max_tokens, bool whole_document) {
  const auto count = [&](const Example& example) {
    const std::size_t prompt = tokenizer.EncodePrompt(example.prompt).size();
    const bool plain_text = whole_document && example.prompt.empty();  // only its first token is not imitated
    SWARR_CHECK(prompt > 0 || plain_text, "the prompt is empty; it needs at least one token");
    const std::size_t completion = tokenizer.Encode(example.completion).size();
    SWARR_CHECK(prompt + completion > 0, "the text is empty; it needs at least one token");
    return whole_document ? prompt + completion + 1 : prompt;
  };
  std::erase_if(problems_, [&](const Problem& problem) {
    std::size_t tokens = 0;
    try {
      tokens = count(problem.example);
    } catch (const Error& e) {
      throw Error(Concat(Where(problem), ": ", e.what()));
    }
    if (tokens <= static_cast<std::size_t>(max_tokens)) return false;
    Drop(Concat("more than ", max_tokens, " tokens"), Where(problem),
         Concat(whole_document ? "prompt and completion with end of text have " : "the prompt has ", tokens,
                " tokens, more than the ", max_tokens, " that are allowed or fit the model"));
    return true;
  });
  CheckAnyLeft();
}

}  // namespace swarr
