// SPDX-License-Identifier: Apache-2.0
// A task from a JSON Lines file, in any of the schemas of task/data_row.h, with prompts in the model's format. A
// RewardRule judges the answers, so this file knows no task in particular.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer.h"
#include "task/data_row.h"
#include "task/task.h"

namespace swarr {

// Problems that were left out for one reason.
struct DroppedRows {
  std::string reason;
  std::int64_t count;
  std::string first;  // "path:line: " and the sentence about the first of them
};

class JsonlTask final : public Task {
 public:
  // Reads the whole file. Throws Error, opening with path:line, for a line that is no JSON object, lacks a needed field
  // or has one of a wrong type, or where the rule's check_row throws if answers are needed; throws for a file without
  // rows, or where every row was dropped. Dropped and counted is a row whose needed completion or answer is empty,
  // whose answer the rule can't use, or whose text holds a token of the chat template (plain text may hold them).
  JsonlTask(const std::filesystem::path& path, JsonlFields needed, RewardRule rule, const FieldNames& names = {},
            const PromptFormat& format = {});

  std::int64_t size() const override { return static_cast<std::int64_t>(problems_.size()); }
  Example Get(std::int64_t index, std::uint64_t) const override { return At(index).example; }
  double Reward(const Example& example, std::string_view completion, bool finished) const override {
    return rule_.verify(example.answer, completion, finished).reward;
  }
  std::string Extract(std::string_view completion) const override { return rule_.extract(completion); }
  // The whole row as it stands in the file, with the fields that this class does not know.
  nlohmann::ordered_json Row(std::int64_t index, std::uint64_t) const override { return At(index).fields; }

  nlohmann::ordered_json Prompt(std::int64_t index) const override;

  // "path:line" of the row, to open a sentence about it.
  std::string Where(std::int64_t index) const { return Where(At(index)); }
  // What was left out, a reason each, in the order in which the reasons came up.
  const std::vector<DroppedRows>& dropped() const { return dropped_; }

  // The next two drop rows that don't fit the model, so that a long run does not meet them in its middle: rows with
  // more than `max_tokens` tokens in the prompt,
  void DropLongPrompts(const Tokenizer& tokenizer, int max_tokens) { DropLong(tokenizer, max_tokens, false); }
  // or in prompt, completion and end of text together. Both throw Error, opening with path:line, for text that the
  // tokenizer can't encode, for a prompt or a text without tokens, and if no row is left.
  void DropLongDocuments(const Tokenizer& tokenizer, int max_tokens) { DropLong(tokenizer, max_tokens, true); }

 private:
  struct Problem {
    int line;
    Example example{};
    nlohmann::json fields;
    std::vector<Message> conversation{};  // as it stands in the row
  };
  const Problem& At(std::int64_t index) const;
  std::string Where(const Problem& problem) const;
  // Why the row can't be used: the reason, and the sentence about this row. Both are empty if it can.
  std::pair<std::string, std::string> WhyDropped(const DataRow& row, JsonlFields needed,
                                                 const PromptFormat& format) const;
  void Drop(const std::string& reason, const std::string& where, const std::string& sentence);
  void CheckAnyLeft() const;
  // Drops the rows whose prompt, or whole document, has more than max_tokens tokens.
  void DropLong(const Tokenizer& tokenizer, int max_tokens, bool whole_document);

  std::filesystem::path path_;
  RewardRule rule_;
  std::vector<Problem> problems_;
  std::vector<DroppedRows> dropped_;
};

}  // namespace swarr
