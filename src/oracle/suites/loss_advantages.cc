// SPDX-License-Identifier: Apache-2.0
// Advantages, as people mistake them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/suites/loss_rule.h"

namespace swarr::oracle {

KlTerm MistakenKl(double d, const LossRule& rule) {
  const bool k3 = rule.kl == KlEstimator::kK3;
  const double sign = rule.kl_turned || (k3 && rule.k3_turned) ? -1 : 1;
  const KlTerm kl = EvaluateKl(sign * d, rule.kl);
  if (k3 && rule.k3_cut && kl.value > 10) return {10, 0};
  return {kl.value, sign * kl.derivative};
}

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

// The rewards of the group that completion i is taken to be in.
std::vector<double> GroupOf(std::size_t i, std::span<const double> rewards, const SampledTokens& sampled,
                            const LossRule& rule) {
  const auto size = static_cast<std::size_t>(sampled.group_size);
  const std::size_t interleaved = rewards.size() / size;
  std::vector<double> group;
  for (std::size_t j = 0; j < rewards.size(); ++j) {
    const bool together =
        rule.groups == Groups::kInterleaved ? j % interleaved == i % interleaved : j / size == i / size;
    const bool counts = rule.empty_in_group || rule.baseline != Baseline::kGroupMean || sampled.lengths[j] > 0;
    if ((rule.groups == Groups::kOne || together) && counts) group.push_back(rewards[j]);
  }
  return group;
}

double CentredAndScaled(double reward, std::span<const double> group, std::span<const double> all,
                        const LossRule& rule) {
  double divisor = 1;
  if (rule.scale_rewards == RewardScale::kGroup) divisor = DivisorOf(group, rule);
  if (rule.scale_rewards == RewardScale::kBatch) divisor = DivisorOf(all, rule);
  const double baseline = BaselineOf(reward, group, rule);
  return rule.baseline_undivided ? reward / divisor - baseline : (reward - baseline) / divisor;
}

// `places`: where the tokens stand.
void SubtractPenalties(std::span<double> advantages, std::span<const double> penalties,
                       std::span<const std::size_t> places, const LossRule& rule) {
  const bool to_go = rule.kl_in == KlPlace::kReturn;
  double later = 0;
  for (std::size_t t = advantages.size(); t-- > 0;) {
    const bool before_a_gap = t + 1 < places.size() && places[t + 1] != places[t] + 1;
    if (rule.to_go_cut && before_a_gap) later = 0;
    advantages[t] -= later + (rule.own_kl_to_go || !to_go ? penalties[t] : 0);
    if (to_go) later += penalties[t];
  }
}

void Whiten(std::span<double> values, std::size_t zeros, bool bessel) {
  if (values.empty()) return;
  const auto [mean, variance] = MomentsOf(values, zeros, bessel);
  for (double& v : values) v = (v - mean) / std::sqrt(variance + 1e-8);
}

}  // namespace

std::vector<double> MistakenAdvantages(const SampledTokens& sampled, std::span<const std::size_t> places,
                                       const LossRule& rule, std::size_t padding) {
  const std::vector<double> penalties = PenaltiesOf(sampled, rule);
  std::vector<std::span<const double>> of_completion;
  std::vector<double> rewards(sampled.rewards.begin(), sampled.rewards.end());
  std::size_t begin = 0;
  for (std::size_t i = 0; i < rewards.size(); begin += of_completion[i++].size()) {
    of_completion.push_back(std::span(penalties).subspan(begin, static_cast<std::size_t>(sampled.lengths[i])));
    rewards[i] = rule.reward_weight * rewards[i] + OverlongPenalty(sampled.lengths[i], rule);
    if (rule.kl_in == KlPlace::kReward) rewards[i] -= SumOf(of_completion[i]);
  }
  const auto group_size = static_cast<std::size_t>(sampled.group_size);
  std::vector<double> advantages;
  std::size_t group_begin = 0;
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    const std::vector<double> own_group = GroupOf(i, rewards, sampled, rule);
    const double centred = CentredAndScaled(rewards[i], own_group, rewards, rule);
    advantages.insert(advantages.end(), of_completion[i].size(), centred);
    const std::size_t length = of_completion[i].size();
    const std::span<double> own = std::span(advantages).last(length);
    if (rule.kl_in == KlPlace::kReturn || rule.kl_in == KlPlace::kAdvantage) {
      SubtractPenalties(own, of_completion[i], places.subspan(advantages.size() - length, length), rule);
    }
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
