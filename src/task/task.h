// SPDX-License-Identifier: Apache-2.0
// What training needs of a task: problems with prompts, completions to imitate, and the reward of a text.
// src/rl implements it, so that supervised fine-tuning can evaluate by generation without knowing RL.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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
};

}  // namespace swarr
