// SPDX-License-Identifier: Apache-2.0
#include "rl/objective.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/check.h"

namespace swarr {

PolicyTermKind ParsePolicyTerm(const std::string& name) {
  if (name == "reinforce") return PolicyTermKind::kReinforce;
  if (name == "grpo") return PolicyTermKind::kGrpo;
  throw UsageError(Concat("unknown objective '", name, "'; use reinforce or grpo"));
}

Aggregation ParseAggregation(const std::string& name) {
  if (name == "token-mean") return Aggregation::kTokenMean;
  if (name == "sequence-mean") return Aggregation::kSequenceMean;
  if (name == "constant") return Aggregation::kConstant;
  throw UsageError(Concat("unknown normaliser '", name, "'; use token-mean, sequence-mean or constant"));
}

std::vector<double> Advantages(std::span<const double> rewards, int group_size, const ObjectiveOptions& options) {
  const auto size = static_cast<std::size_t>(group_size);
  SWARR_CHECK(group_size >= 1 && rewards.size() % size == 0, rewards.size(),
              " rewards are no whole number of groups of ", group_size);
  std::vector<double> advantages(rewards.size(), 0.0);
  for (std::size_t begin = 0; begin < rewards.size(); begin += size) {
    const std::span<const double> group = rewards.subspan(begin, size);
    if (std::all_of(group.begin(), group.end(), [&](double r) { return r == group[0]; })) continue;
    const double mean = std::accumulate(group.begin(), group.end(), 0.0) / static_cast<double>(size);
    double squares = 0;
    for (double r : group) squares += (r - mean) * (r - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(size - 1));
    for (std::size_t i = 0; i < size; ++i) {
      advantages[begin + i] = (group[i] - mean) / (options.scale_rewards ? deviation + 1e-4 : 1.0);
    }
  }
  return advantages;
}

std::vector<double> SequenceWeights(std::span<const int> lengths, const ObjectiveOptions& options) {
  SWARR_CHECK(options.aggregation != Aggregation::kConstant || options.max_completion_length > 0,
              "the constant normaliser needs the longest completion's length");
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const double count = static_cast<double>(lengths.size());
  std::vector<double> weights;
  for (int length : lengths) {
    double normaliser = tokens;
    if (options.aggregation == Aggregation::kSequenceMean) normaliser = count * length;
    if (options.aggregation == Aggregation::kConstant) normaliser = count * options.max_completion_length;
    weights.push_back(normaliser > 0 ? 1.0 / normaliser : 0.0);
  }
  return weights;
}

PolicyTerm EvaluateTerm(double logp, double old_logp, double advantage, const ObjectiveOptions& options) {
  if (options.term == PolicyTermKind::kReinforce) return {-advantage * logp, -advantage, false};
  const double ratio = std::exp(logp - old_logp);
  const double kept = std::clamp(ratio, 1.0 - options.epsilon, 1.0 + options.epsilon);
  // The smaller of the two products is the clipped one only where the ratio has gone too far in the advantage's
  // direction.
  if (kept * advantage < ratio * advantage) return {-kept * advantage, 0.0, true};
  return {-ratio * advantage, -ratio * advantage, false};  // d rho / d log p = rho
}

}  // namespace swarr
