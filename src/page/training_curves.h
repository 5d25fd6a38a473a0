// SPDX-License-Identifier: Apache-2.0
// How a training went, as a report shows it.
#pragma once

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace swarr {

// One number of a training, step by step.
struct TrainingCurve {
  std::string metric{};                         // as in metrics.jsonl
  std::vector<std::array<double, 2>> points{};  // step and value, each the mean of so many steps that 100 suffice
};

// The metric of restatements, which metrics.jsonl has not: they are counted in the completions.
constexpr const char* kRestatementMetric = "restatements";

// What a page shows of these metrics, and in which order.
struct ShownMetric {
  const char *metric, *title;
};
constexpr std::array<ShownMetric, 6> kShownMetrics = {{{"loss", "loss"},
                                                       {"reward", "reward"},
                                                       {kRestatementMetric, "restating"},
                                                       {"completions/mean_length", "length, tokens"},
                                                       {"entropy", "entropy"},
                                                       {"grad_norm", "gradient norm"}}};

// Those of the shown metrics that the rows of a run's metrics.jsonl have, which may be being written.
std::vector<TrainingCurve> ReadTraining(const std::filesystem::path& metrics);

// The points thinned to at most `most`, each the mean of its neighbours, with six digits.
std::vector<std::array<double, 2>> Thinned(const std::vector<std::array<double, 2>>& points, std::size_t most);

nlohmann::ordered_json TrainingJson(const std::vector<TrainingCurve>& training);
std::vector<TrainingCurve> TrainingOf(const nlohmann::ordered_json& json);

}  // namespace swarr
