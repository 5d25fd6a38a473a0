// SPDX-License-Identifier: Apache-2.0
// A task from a JSON Lines file, in any of the schemas of task/data_row.h, written as the model's prompts want it. How
// an answer is judged is a rule of its own, so that this file knows no task in particular.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer.h"
#include "task/data_row.h"
#include "task/prompt_format.h"
#include "task/task.h"

namespace swarr {

struct Verdict {
  double reward;     // in [0, 1]
  std::string rule;  // what decided
};

// How completions are judged. task/rewards.h has the rules by name.
struct RewardRule {
  std::string name;
  // Throws Error unless `gold` is a gold answer that the rule can compare with.
  std::function<void(std::string_view gold)> check_gold;
  std::function<Verdict(std::string_view gold, std::string_view completion, bool finished)> verify;
  // The answer that a completion gives; empty if none.
  std::function<std::string(std::string_view completion)> extract;
};

// Problems that were left out for one reason.
struct DroppedRows {
  std::string reason;
  std::int64_t count;
  std::string first;  // "path:line: " and the sentence about the first of them
};

class JsonlTask final : public Task {
 public:
  // Reads the whole file. Throws Error, opening with path:line, for a line that is no JSON object, lacks a needed field
  // or has one of a wrong type; throws for a file without rows, or where every row was dropped. Dropped and counted is
  // a row whose needed completion or answer is empty, whose answer the rule can't use, or whose text holds a token of
  // the chat template (plain text may hold them).
  JsonlTask(const std::filesystem::path& path, JsonlFields needed, RewardRule rule, const FieldNames& names = {},
            const PromptFormat& format = {});

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
  // What was left out, by reason in the order in which the reasons came up.
  const std::vector<DroppedRows>& dropped() const { return dropped_; }

  // The next two drop the rows that don't fit the model, so that a long run does not find out in its middle: those with
  // more than `max_tokens` tokens in the prompt,
  void DropLongPrompts(const Tokenizer& tokenizer, int max_tokens);
  // or in prompt, completion and end of text together. Both throw Error, opening with path:line, for text that the
  // tokenizer can't encode and for a prompt without tokens, and if no row is left.
  void DropLongDocuments(const Tokenizer& tokenizer, int max_tokens);

 private:
  struct Row {
    int line;
    Example example;
    nlohmann::json fields;
  };
  const Row& At(std::int64_t index) const;
  std::string Where(const Row& row) const;
  // Why the row can't be used: the reason, and the sentence about this row. Both are empty if it can.
  std::pair<std::string, std::string> WhyDropped(const DataRow& row, JsonlFields needed,
                                                 const PromptFormat& format) const;
  void Drop(const std::string& reason, const std::string& where, const std::string& sentence);
  void CheckAnyLeft() const;
  // Drops the rows where `count` gives more than max_tokens for the tokens of prompt and completion.
  void DropLong(const Tokenizer& tokenizer, int max_tokens, const std::string& what,
                const std::function<std::size_t(std::size_t prompt, std::size_t completion)>& count);
  // The number of tokens of the row's prompt, at least 1 unless the row is plain text, and of its completion.
  std::pair<std::size_t, std::size_t> CountTokens(const Row& row, const Tokenizer& tokenizer) const;

  std::filesystem::path path_;
  RewardRule rule_;
  std::vector<Row> rows_;
  std::vector<DroppedRows> dropped_;
};

}  // namespace swarr
