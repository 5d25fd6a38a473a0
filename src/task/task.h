// SPDX-License-Identifier: Apache-2.0
// What training and evaluation need of a task: problems with prompts, completions to imitate, and the reward of a text.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/names.h"
#include "task/traces.h"

namespace swarr {

// One problem. Texts are without the end-of-text token; the data loader appends it to completions.
struct Example {
  std::string prompt;      // empty if the completion is plain text, to be learned as it is
  std::string completion;  // empty if the task has none to imitate
  std::string answer;      // the gold answer
};

class Task {
 public:
  virtual ~Task() = default;
  virtual std::int64_t size() const = 0;
  // Problem `index` in [0, size()). `draw` selects among completions where a task draws them afresh; others ignore it.
  virtual Example Get(std::int64_t index, std::uint64_t draw) const = 0;
  // The reward in [0, 1] of `completion` for `example`. `finished` tells whether the text ended by end-of-text;
  // an unfinished (truncated) text is worth 0, unless the rule is one that judges what there is.
  virtual double Reward(const Example& example, std::string_view completion, bool finished) const = 0;
  // The answer that `completion` gives, empty if none: what majority voting counts.
  virtual std::string Extract(std::string_view completion) const = 0;

  // The tokens that any right completion fits in; 0 if the task does not know.
  virtual int completion_limit() const { return 0; }
  // The field "prompt" of the problem in a data file: a text, or a conversation; before any format is applied.
  virtual nlohmann::ordered_json Prompt(std::int64_t index) const { return Get(index, 0).prompt; }
  // The problem as a row of a data file.
  virtual nlohmann::ordered_json Row(std::int64_t index, std::uint64_t draw) const {
    const Example e = Get(index, draw);
    return {{"prompt", e.prompt}, {"completion", e.completion}, {"answer", e.answer}};
  }
};

struct Score {
  double reward;     // in [0, 1]
  std::string rule;  // what decided
};

// How completions are judged. task/registry.h has the rules by name.
struct RewardRule {
  std::string name;
  // Throws Error unless `gold` is a gold answer that the rule can compare with.
  std::function<void(std::string_view gold)> check_gold;
  std::function<Score(std::string_view gold, std::string_view completion, bool finished)> verify;
  // The answer that a completion gives; empty if none.
  std::function<std::string(std::string_view completion)> extract;

  // The last two are empty in rules that look at the answer alone. Throws Error if a row of a data file contradicts
  // itself.
  std::function<void(const nlohmann::json& row)> check_row{};
  TraceRule traces{};
};

// Three sets of problems that never meet.
enum class Split : std::uint8_t { kSft, kRl, kEval };
template <>
inline constexpr std::array kNames<Split> = {"sft", "rl", "eval"};

}  // namespace swarr
