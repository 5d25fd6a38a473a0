// SPDX-License-Identifier: Apache-2.0
#include "study/traces.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace swarr {

std::vector<SampledTrace> TracesToShow(const Task& task, const std::vector<EvaluatedCompletion>& sampled,
                                       const std::vector<ProblemOutcome>& outcomes) {
  if (outcomes.empty()) return {};
  std::vector<int> sizes;
  for (const ProblemOutcome& outcome : outcomes) sizes.push_back(outcome.steps);
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::ranges::nth_element(sizes, middle);
  const int median = *middle;
  std::vector<std::size_t> order(outcomes.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return std::abs(outcomes[i].steps - median); });
  order.resize(std::min(order.size(), kShownTraces));
  std::ranges::sort(order);
  std::vector<SampledTrace> traces;
  for (const std::size_t i : order) {
    traces.push_back({.problem = sampled[i].problem,
                      .prompt = task.Get(sampled[i].problem, 0).prompt,
                      .completion = sampled[i].text,
                      .right = outcomes[i].correct_sampled});
  }
  return traces;
}

nlohmann::ordered_json TracesJson(const std::vector<SampledTrace>& traces) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const SampledTrace& t : traces) {
    json.push_back({{"problem", t.problem}, {"prompt", t.prompt}, {"completion", t.completion}, {"right", t.right}});
  }
  return json;
}

std::vector<SampledTrace> TracesOf(const nlohmann::ordered_json& json) {
  std::vector<SampledTrace> traces;
  for (const nlohmann::ordered_json& t : json) {
    traces.push_back({.problem = t.at("problem"),
                      .prompt = t.at("prompt"),
                      .completion = t.at("completion"),
                      .right = t.at("right")});
  }
  return traces;
}

}  // namespace swarr
