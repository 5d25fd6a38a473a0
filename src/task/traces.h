// SPDX-License-Identifier: Apache-2.0
// What texts show beside their rewards: a task counts in each of them what it needed and what it placed where, and says
// which ratios of the counts are worth a column. Evaluations and studies know no more of a task than this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace swarr {

// Of one text that completes a problem.
struct TraceCounts {
  int size = 0;            // of the problem: how many steps its solution has
  bool in_reach = false;   // whether all that the text needs was mentioned within the reach, rightly or not
  double best_chance = 0;  // that the answer is right: 1 in reach, else what a guess is worth after this text
  std::vector<std::int64_t> counts{};
  std::vector<int> runs{};  // of the chain: its steps before the first restatement, then after each
};

// A ratio of two of the counts, pooled over texts, so that a long text weighs more.
struct TraceMeasure {
  std::string name;                 // in files
  std::string head;                 // of a column
  std::size_t part = 0, whole = 0;  // places among the counts
  int decimals = 3;

  // 0 without a whole.
  double Of(std::span<const std::int64_t> sums) const {
    return sums[whole] == 0 ? 0.0 : static_cast<double>(sums[part]) / static_cast<double>(sums[whole]);
  }
};

// Every task's first three measures: how often a text repeats, a step, what has slid away; how many tokens lie between
// the use of a fact and its last mention; the share of the needed facts that lie inside the window.
enum TraceColumn : std::size_t { kRepeatRate, kDistance, kInWindow };

struct TraceRule {
  std::vector<std::string> counts{};  // their names in files
  std::vector<TraceMeasure> measures{};
  // How often an answer is right whose text lacks something that it needs: the least best_chance.
  double guess = 0;
  // For a row of a data file and a completion of its prompt, under a model whose smallest window is `window` (0: full
  // attention), which sees no farther than `reach` tokens. Nothing if the row does not say enough of its problem.
  std::function<std::optional<TraceCounts>(const nlohmann::json& row, std::string_view text, int window,
                                           std::int64_t reach)>
      count{};
};

}  // namespace swarr
