// SPDX-License-Identifier: Apache-2.0
// Rewards to advantages, as people mistake it.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/suites/loss_rule.h"

namespace swarr::oracle {
namespace {

double SumOf(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Mean and variance of the values and `zeros` more that are 0.
struct Moments {
  double mean, variance;
};

Moments MomentsOf(std::span<const double> values, std::size_t zeros, bool bessel) {
  const double n = static_cast<double>(values.size() + zeros), mean = SumOf(values) / n;
  double squares = static_cast<double>(zeros) * mean * mean;
  for (double v : values) squares += (v - mean) * (v - mean);
  return {mean, squares / (bessel ? std::max(1.0, n - 1) : n)};
}

// beta times the KL of each token of the policy that sampled; 0 where it has no place in the advantages.
std::vector<double> PenaltiesOf(const SampledTokens& sampled, const LossRule& rule) {
  std::vector<double> penalties(sampled.old_logp.size());
  for (std::size_t t = 0; t < penalties.size() && rule.beta != 0 && rule.kl_in != KlPlace::kLoss; ++t) {
    penalties[t] = rule.beta * MistakenKl(sampled.old_logp[t] - sampled.ref_logp[t], rule).value;
  }
  return penalties;
}

double BaselineOf(double reward, std::span<const double> group, const LossRule& rule) {
  const double sum = SumOf(group), size = static_cast<double>(group.size());
  if (rule.baseline == Baseline::kNone) return 0;
  if (rule.baseline == Baseline::kGroupMean) return sum / size;
  return (sum - reward) / (rule.others_divided_by_group ? size : size - 1);
}

double DivisorOf(std::span<const double> rewards, const LossRule& rule) {
  const double variance = MomentsOf(rewards, 0, rule.bessel).variance, epsilon = rule.scale_epsilon;
  return rule.epsilon_in_root ? std::sqrt(variance + epsilon) : std::sqrt(variance) + epsilon;
}

std::vector<double> CentredAndScaled(std::span<const double> rewards, std::size_t group_size, const LossRule& rule) {
  std::vector<double> advantages;
  for (std::size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const std::span<const double> group = rewards.subspan(begin, group_size);
    double divisor = 1;
    if (rule.scale_rewards == RewardScale::kGroup) divisor = DivisorOf(group, rule);
    if (rule.scale_rewards == RewardScale::kBatch) divisor = DivisorOf(rewards, rule);
    for (double r : group) {
      const double baseline = BaselineOf(r, group, rule);
      advantages.push_back(rule.baseline_undivided ? r / divisor - baseline : (r - baseline) / divisor);
    }
  }
  return advantages;
}

void SubtractToGo(std::span<double> advantages, std::span<const double> penalties, bool with_own) {
  double later = 0;
  for (std::size_t t = advantages.size(); t-- > 0;) {
    advantages[t] -= later + (with_own ? penalties[t] : 0);
    later += penalties[t];
  }
}

void Whiten(std::span<double> values, std::size_t zeros, bool bessel) {
  if (values.empty()) return;
  const auto [mean, variance] = MomentsOf(values, zeros, bessel);
  for (double& v : values) v = (v - mean) / std::sqrt(variance + 1e-8);
}

}  // namespace

std::vector<double> MistakenAdvantages(const SampledTokens& sampled, const LossRule& rule, std::size_t padding) {
  const std::vector<double> penalties = PenaltiesOf(sampled, rule);
  std::vector<std::span<const double>> of_completion;
  std::vector<double> rewards(sampled.rewards.begin(), sampled.rewards.end());
  std::size_t begin = 0;
  for (std::size_t i = 0; i < rewards.size(); begin += of_completion[i++].size()) {
    of_completion.push_back(std::span(penalties).subspan(begin, static_cast<std::size_t>(sampled.lengths[i])));
    rewards[i] += OverlongPenalty(sampled.lengths[i], rule);
    if (rule.kl_in == KlPlace::kReward) rewards[i] -= SumOf(of_completion[i]);
  }
  const auto group_size = static_cast<std::size_t>(sampled.group_size);
  const std::vector<double> centred = CentredAndScaled(rewards, group_size, rule);
  std::vector<double> advantages;
  std::size_t group_begin = 0;
  for (std::size_t i = 0; i < centred.size(); ++i) {
    advantages.insert(advantages.end(), of_completion[i].size(), centred[i]);
    const std::span<double> own = std::span(advantages).last(of_completion[i].size());
    if (rule.kl_in == KlPlace::kReturn) SubtractToGo(own, of_completion[i], rule.own_kl_to_go);
    if ((i + 1) % group_size != 0) continue;
    const std::span<double> group = std::span(advantages).subspan(group_begin);
    if (rule.whiten && rule.whitened == Whitened::kByGroup) Whiten(group, 0, rule.whiten_bessel);
    group_begin = advantages.size();
  }
  if (rule.whiten && rule.whitened != Whitened::kByGroup) {
    Whiten(advantages, rule.whitened == Whitened::kWithPadding ? padding : 0, rule.whiten_bessel);
  }
  for (double& a : advantages) a *= rule.sign;
  return advantages;
}

}  // namespace swarr::oracle
