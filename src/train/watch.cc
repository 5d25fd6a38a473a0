// SPDX-License-Identifier: Apache-2.0
#include "train/watch.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/check.h"
#include "base/files.h"

namespace swarr {
namespace {

constexpr const char* kField = "warnings";
constexpr double kSolved = 0.99;
constexpr double kRewardShare = 0.5, kStandardErrors = 6;
constexpr double kEntropyShare = 0.05;
constexpr double kMostTruncated = 0.25;

// The number of this name, or nothing.
std::optional<double> Find(const nlohmann::ordered_json& row, const char* name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_number() ? std::optional(found->get<double>()) : std::nullopt;
}

void ForRows(const std::filesystem::path& run_dir, const std::function<void(const nlohmann::json&)>& see) {
  const std::filesystem::path path = run_dir / "metrics.jsonl";
  if (!std::filesystem::exists(path)) return;
  ForEachJsonLine(path, [&](int, const nlohmann::json& row) { see(row); });
}

}  // namespace

void Watch::Recent::Add(double value) {
  values.push_back(value);
  if (values.size() > kWatchSteps) values.pop_front();
}

double Watch::Recent::mean() const {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Watch::Recent::squared_error() const {
  double squares = 0;
  for (const double value : values) squares += (value - mean()) * (value - mean());
  return squares / static_cast<double>(values.size() - 1) / static_cast<double>(values.size());
}

bool Watch::Begins(Rule rule, bool holds) {
  std::size_t& since = since_[rule];
  const bool begins = holds && since >= kWatchSteps;
  since = holds ? 0 : since + 1;
  return begins;
}

std::vector<std::string> Watch::See(const nlohmann::ordered_json& row) {
  const auto reward = Find(row, "reward"), entropy = Find(row, "entropy");
  const auto gradient = Find(row, "grad_norm"), truncated = Find(row, "completions/clipped_ratio");
  const auto updates = Find(row, "num_updates");
  if (const auto change = updates ? updates : gradient) updates_.Add(*change);
  if (truncated) truncated_.Add(*truncated);
  if (reward) rewards_.Add(*reward);
  // Where no token was trained on, entropy is 0 because it is a mean over nothing.
  if (reward && entropy && Find(row, "rollout_logprob_tokens").value_or(1) > 0) {
    if (!first_entropy_) first_entropy_ = entropy;
    entropies_.Add(*entropy);
  }
  const double mean_reward = rewards_.full() ? rewards_.mean() : 0;
  const bool solved = mean_reward >= kSolved;

  std::vector<std::string> warnings;
  if (Begins(kNoUpdate, !solved && updates_.full() && updates_.mean() == 0)) {
    warnings.push_back(Concat("none of the last ", kWatchSteps, " steps changed the weights: ",
                              reward ? "no group has completions of different rewards" : "the gradient is 0"));
  }
  if (rewards_.full()) {
    // The larger of the two for both: a mean that is low by chance has little variance too.
    const double error = std::sqrt(2 * std::max(best_squared_error_, rewards_.squared_error()));
    const double drop = best_reward_ - mean_reward;
    if (Begins(kReward, mean_reward < kRewardShare * best_reward_ && drop > kStandardErrors * error)) {
      warnings.push_back(Concat("the reward collapses: ", mean_reward, " on average over ", kWatchSteps,
                                " steps, after ", best_reward_, " at best; try a smaller --lr"));
    }
    if (mean_reward > best_reward_) {
      best_reward_ = mean_reward;
      best_squared_error_ = rewards_.squared_error();
    }
  }
  const double mean_entropy = entropies_.full() ? entropies_.mean() : 0;
  if (Begins(kEntropy, !solved && entropies_.full() && mean_entropy < kEntropyShare * *first_entropy_)) {
    warnings.push_back(Concat("the entropy collapses: ", mean_entropy, " on average over ", kWatchSteps,
                              " steps, after ", *first_entropy_, " at the start; little is explored any more"));
  }
  if (Begins(kTruncation, truncated_.full() && truncated_.mean() > kMostTruncated)) {
    warnings.push_back(Concat("many completions are cut: ", 100 * truncated_.mean(), "% over ", kWatchSteps,
                              " steps; raise --max-completion-length if they are of use"));
  }
  return warnings;
}

void Watch::AddTo(nlohmann::ordered_json& row) {
  if (const std::vector<std::string> warnings = See(row); !warnings.empty()) row[kField] = warnings;
}

Watch::Watch(const std::filesystem::path& run_dir, std::int64_t steps) {
  ForRows(run_dir, [&](const nlohmann::json& row) {
    if (row.value("step", std::int64_t{0}) <= steps) See(row);
  });
}

std::vector<std::pair<std::int64_t, std::string>> WarningsOf(const std::filesystem::path& run_dir) {
  std::vector<std::pair<std::int64_t, std::string>> warnings;
  ForRows(run_dir, [&](const nlohmann::json& row) {
    for (const auto& text : row.value(kField, nlohmann::json::array())) {
      warnings.emplace_back(row.value("step", std::int64_t{0}), text.get<std::string>());
    }
  });
  return warnings;
}

}  // namespace swarr
