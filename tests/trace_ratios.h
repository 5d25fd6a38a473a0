// SPDX-License-Identifier: Apache-2.0
// What an evaluation reports of texts beside their rewards.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "task/registry.h"

namespace swarr {

// The task's measures by name, over texts that all complete the problem of one row.
inline std::map<std::string, double> RatiosOf(const std::string& task, const nlohmann::json& row,
                                              const std::vector<std::string>& texts, int window) {
  const TraceRule rule = RewardByName(task).traces;
  std::vector<std::int64_t> sums(rule.counts.size());
  for (const std::string& text : texts) {
    const std::vector<std::int64_t> counts = rule.count(row, text, window, /*reach=*/0, /*starts=*/{}).value().counts;
    std::transform(sums.begin(), sums.end(), counts.begin(), sums.begin(), std::plus());
  }
  std::map<std::string, double> ratios;
  for (const TraceMeasure& measure : rule.measures) ratios[measure.name] = measure.Of(sums);
  return ratios;
}

}  // namespace swarr
