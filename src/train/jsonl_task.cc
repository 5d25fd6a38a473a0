// SPDX-License-Identifier: Apache-2.0
#include "train/jsonl_task.h"

#include <utility>

#include "tensor/check.h"
#include "tensor/files.h"

namespace swarr {
namespace {

// The text in row[key]; empty if it is absent and not needed.
std::string TextField(const nlohmann::json& row, const char* key, bool needed) {
  const auto found = row.find(key);
  if (found == row.end()) {
    SWARR_CHECK(!needed, "the field \"", key, "\" is missing");
    return {};
  }
  SWARR_CHECK(found->is_string(), "the field \"", key, "\" is ", found->dump(), " where a text in quotes is needed");
  return found->get<std::string>();
}

}  // namespace

JsonlTask::JsonlTask(const std::filesystem::path& path, JsonlFields needed, RewardRule rule)
    : path_(path), rule_(std::move(rule)) {
  ForEachJsonLine(path, [&](int line, const nlohmann::json& row) {
    SWARR_CHECK(row.is_object(),
                "a row must be an object like {\"prompt\": ..., \"completion\": ..., \"answer\": ...}");
    Example example{TextField(row, "prompt", true), TextField(row, "completion", needed.completion),
                    TextField(row, "answer", needed.answer)};
    if (needed.answer) rule_.check_gold(example.answer);
    rows_.push_back({line, std::move(example), row});
  });
  SWARR_CHECK(!rows_.empty(), path.string(), " holds no problem; it needs at least one line of JSON");
}

const JsonlTask::Row& JsonlTask::At(std::int64_t index) const {
  SWARR_CHECK(index >= 0 && index < size(), path_.string(), ": problem ", index, " was asked for, and there are ",
              size());
  return rows_[static_cast<std::size_t>(index)];
}

Example JsonlTask::Get(std::int64_t index, std::uint64_t /*draw*/) const { return At(index).example; }

std::string JsonlTask::Where(std::int64_t index) const { return Concat(path_.string(), ":", At(index).line); }

std::pair<std::size_t, std::size_t> JsonlTask::CountTokens(std::int64_t index, const Tokenizer& tokenizer) const {
  const Example& example = At(index).example;
  try {
    const std::size_t prompt = tokenizer.Encode(example.prompt).size();
    SWARR_CHECK(prompt > 0, "the prompt is empty; it needs at least one token");
    return {prompt, tokenizer.Encode(example.completion).size()};
  } catch (const Error& e) {
    throw Error(Concat(Where(index), ": ", e.what()));
  }
}

void JsonlTask::CheckPrompts(const Tokenizer& tokenizer, int max_tokens) const {
  for (std::int64_t i = 0; i < size(); ++i) {
    const std::size_t tokens = CountTokens(i, tokenizer).first;
    SWARR_CHECK(tokens <= static_cast<std::size_t>(max_tokens), Where(i), ": the prompt has ", tokens,
                " tokens, more than the ", max_tokens, " that the model's context leaves room for; shorten it");
  }
}

void JsonlTask::CheckDocuments(const Tokenizer& tokenizer, int max_tokens) const {
  for (std::int64_t i = 0; i < size(); ++i) {
    const auto [prompt, completion] = CountTokens(i, tokenizer);
    const std::size_t tokens = prompt + completion + 1;
    SWARR_CHECK(tokens <= static_cast<std::size_t>(max_tokens), Where(i), ": prompt and completion have ", tokens,
                " tokens with end of text, more than the ", max_tokens,
                " that are allowed or fit the model; shorten the row");
  }
}

}  // namespace swarr
