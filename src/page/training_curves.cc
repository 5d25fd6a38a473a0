// SPDX-License-Identifier: Apache-2.0
#include "page/training_curves.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/files.h"

namespace swarr {
namespace {

constexpr std::size_t kKeptPoints = 100;

double SixDigits(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return std::strtod(text, nullptr);
}

}  // namespace

std::vector<std::array<double, 2>> Thinned(const std::vector<std::array<double, 2>>& points, std::size_t most) {
  const std::size_t size = (points.size() + most - 1) / most;  // of a group; the last may be smaller
  std::vector<std::array<double, 2>> means;
  for (std::size_t begin = 0; begin < points.size(); begin += size) {
    const std::size_t end = std::min(begin + size, points.size());
    std::array<double, 2> sum{};
    for (std::size_t i = begin; i < end; ++i) sum[0] += points[i][0], sum[1] += points[i][1];
    const auto count = static_cast<double>(end - begin);
    means.push_back({SixDigits(sum[0] / count), SixDigits(sum[1] / count)});
  }
  return means;
}

std::vector<TrainingCurve> ReadTraining(const std::filesystem::path& metrics) {
  std::vector<TrainingCurve> all(kShownMetrics.size());
  ForEachWholeJsonLine(metrics, [&](int, const nlohmann::json& row) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].metric = kShownMetrics[i].metric;
      const auto value = row.find(all[i].metric);
      if (value == row.end() || !value->is_number() || !row.contains("step")) continue;
      all[i].points.push_back({row["step"].get<double>(), value->get<double>()});
    }
  });
  std::erase_if(all, [](const TrainingCurve& curve) { return curve.points.empty(); });
  for (TrainingCurve& curve : all) curve.points = Thinned(curve.points, kKeptPoints);
  return all;
}

nlohmann::ordered_json TrainingJson(const std::vector<TrainingCurve>& training) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const TrainingCurve& curve : training) json[curve.metric] = curve.points;
  return json;
}

std::vector<TrainingCurve> TrainingOf(const nlohmann::ordered_json& json) {
  std::vector<TrainingCurve> training;
  for (const auto& [metric, points] : json.items()) {
    training.push_back({.metric = metric, .points = points.get<std::vector<std::array<double, 2>>>()});
  }
  return training;
}

}  // namespace swarr
