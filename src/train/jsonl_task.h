// SPDX-License-Identifier: Apache-2.0
// A task from a JSON Lines file: one problem a line, {"prompt": ..., "completion": ..., "answer": ...}, all texts
// without end of text. How an answer is judged is a rule of its own, so that this file knows no task in particular.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer.h"
#include "train/task.h"

namespace swarr {

struct Verdict {
  double reward;     // in [0, 1]
  std::string rule;  // what decided
};

// How completions are judged. rl/rewards.h has the rules by name.
struct RewardRule {
  std::string name;
  // Throws Error unless `gold` is a gold answer that the rule can compare with.
  std::function<void(std::string_view gold)> check_gold;
  std::function<Verdict(std::string_view gold, std::string_view completion, bool finished)> verify;
  // The answer that a completion gives; empty if none.
  std::function<std::string(std::string_view completion)> extract;
};

// The fields that every row must have besides `prompt`. A field that isn't needed may be absent and is then empty.
struct JsonlFields {
  bool completion = false;  // something to imitate
  bool answer = false;      // something to compare with
};

class JsonlTask final : public Task {
 public:
  // Reads the whole file. Throws Error, opening with path:line, for a line that is no JSON object, lacks a needed
  // field, has one that is no text, or has an answer that the rule can't use; throws for a file without rows.
  JsonlTask(const std::filesystem::path& path, JsonlFields needed, RewardRule rule);

  std::int64_t size() const override { return static_cast<std::int64_t>(rows_.size()); }
  Example Get(std::int64_t index, std::uint64_t draw) const override;
  double Reward(const Example& example, std::string_view completion, bool finished) const override {
    return rule_.verify(example.answer, completion, finished).reward;
  }
  std::string Extract(std::string_view completion) const override { return rule_.extract(completion); }

  // The whole row as it stands in the file, with the fields that this class does not know.
  const nlohmann::json& row(std::int64_t index) const { return At(index).fields; }
  // "path:line" of a row, to open the sentence of an error about it.
  std::string Where(std::int64_t index) const;

  // The next two throw Error, opening with path:line, for the first row that could not be used, so that a long run does
  // not find out in its middle: one with a character that has no token, with a prompt without tokens, or
  // with more than `max_tokens` tokens in the prompt,
  void CheckPrompts(const Tokenizer& tokenizer, int max_tokens) const;
  // or with more in prompt, completion and end of text together.
  void CheckDocuments(const Tokenizer& tokenizer, int max_tokens) const;

 private:
  struct Row {
    int line;
    Example example;
    nlohmann::json fields;
  };
  const Row& At(std::int64_t index) const;
  // The number of tokens of the row's prompt, at least 1, and of its completion.
  std::pair<std::size_t, std::size_t> CountTokens(std::int64_t index, const Tokenizer& tokenizer) const;

  std::filesystem::path path_;
  RewardRule rule_;
  std::vector<Row> rows_;
};

}  // namespace swarr
