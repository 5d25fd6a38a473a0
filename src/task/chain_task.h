// SPDX-License-Identifier: Apache-2.0
// The chain task (task/chain.h) as training and evaluation meet it: drawn afresh, or as rows of a data file.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "task/chain.h"
#include "task/task.h"

namespace swarr {

struct ChainOptions {
  int n_min = 4;
  int n_max = 16;
  double restate_probability = 0.2;
  std::uint64_t seed = 0;  // of the restatements only; the problems and their order are fixed
};

// The problems of one split as a Task. Get draws the restatements afresh for each (index, draw), reproducibly.
class ChainTask final : public Task {
 public:
  // Throws UsageError for a range that ProblemsOf rejects and for a probability outside [0, 1].
  ChainTask(Split split, const ChainOptions& options);

  std::int64_t size() const override { return static_cast<std::int64_t>(problems_.size()); }
  Example Get(std::int64_t index, std::uint64_t draw) const override;
  double Reward(const Example& example, std::string_view completion, bool finished) const override;
  std::string Extract(std::string_view completion) const override { return ExtractChainAnswer(completion); }
  int completion_limit() const override { return ChainTokenLimit(options_.n_max); }
  Measures Measure(std::span<const Attempt> attempts, int window) const override;
  nlohmann::ordered_json Facts(std::int64_t index) const override;  // a, b, n, x0

  const ChainProblem& problem(std::int64_t index) const;

 private:
  ChainOptions options_;
  std::vector<ChainProblem> problems_;
};

// The problem that a row states in a, b, n and x0; nothing if it has none of these fields. Throws Error if it has some
// but not all, if they are no problem of the task, or if the row's prompt states another one.
std::optional<ChainProblem> ChainProblemOf(const nlohmann::json& row);

}  // namespace swarr
