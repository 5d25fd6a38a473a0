// SPDX-License-Identifier: Apache-2.0
// Says when a run goes on although nothing is learned any more. The rules look at the rows of metrics.jsonl alone, so a
// run that is resumed gives the same warnings at the same steps as one that was not. All means are over kWatchSteps.
//
//   no update          none of the last kWatchSteps steps has changed a weight: num_updates, or in SFT grad_norm, is 0.
//                      With 16 groups of which one in ten has a spread, twenty such steps in a row come once in 10^14.
//   reward collapse    the mean reward is below half of the best mean so far, and by more than 6 standard errors of
//                      that difference, so that steps of few completions don't warn by chance.
//   entropy collapse   the mean entropy is below a twentieth of what the first step had: hardly anything is explored.
//                      In RL only, since SFT is meant to lower it.
//   truncation         the mean of completions/clipped_ratio is above a quarter: what is cut is worth 0, so length is
//                      what most of the advantage is about.
// A policy whose mean reward is 0.99 or more has nothing left to learn: it neither lacks updates nor entropy. A rule
// that holds warns once, and again only after it has not held for kWatchSteps steps.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace swarr {

constexpr std::size_t kWatchSteps = 20;

class Watch {
 public:
  Watch() = default;
  // Goes on after the first `steps` steps of the run in this directory, whose metrics.jsonl it reads.
  Watch(const std::filesystem::path& run_dir, std::int64_t steps);

  // Sees the next row of metrics, and returns the warnings that begin with it.
  std::vector<std::string> See(const nlohmann::ordered_json& row);
  // The same, as the row's field "warnings"; a row without any gets none.
  void AddTo(nlohmann::ordered_json& row);

 private:
  // The last kWatchSteps values of a metric.
  struct Recent {
    std::deque<double> values{};
    void Add(double value);
    bool full() const { return values.size() == kWatchSteps; }
    double mean() const;
    double squared_error() const;  // of the mean, from the values' variance
  };
  enum Rule : std::uint8_t { kNoUpdate, kReward, kEntropy, kTruncation, kRules };
  // Whether the rule's warning begins, given that the rule holds now or not.
  bool Begins(Rule rule, bool holds);

  Recent updates_, rewards_, entropies_, truncated_;
  std::optional<double> first_entropy_;
  double best_reward_ = 0, best_squared_error_ = 0;
  std::array<std::size_t, kRules> since_{kWatchSteps, kWatchSteps, kWatchSteps, kWatchSteps};  // it last held
};

// The warnings in a run's metrics.jsonl, with their steps.
std::vector<std::pair<std::int64_t, std::string>> WarningsOf(const std::filesystem::path& run_dir);

}  // namespace swarr
