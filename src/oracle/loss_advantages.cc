// SPDX-License-Identifier: Apache-2.0
// Rewards to advantages, as people mistake it.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/loss_rule.h"

namespace swarr::oracle {
namespace {

double SumOf(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

// Of the values and `zeros` more that are 0.
struct Moments {
  double mean, variance;
};

Moments MomentsOf(std::span<const double> values, std::size_t zeros, bool bessel) {
  const double n = static_cast<double>(values.size() + zeros), mean = SumOf(values) / n;
  double squares = static_cast<double>(zeros) * mean * mean;
  for (double v : values) squares += (v - mean) * (v - mean);
  return {mean, squares / (bessel ? std::max(1.0, n - 1) : n)};
}

std::vector<double> ShapedRewards(const SampledTokens& sampled, const LossRule& rule) {
  const bool penalised = rule.options.beta != 0 && rule.options.kl_in == KlPlace::kReward;
  std::vector<double> rewards(sampled.rewards.begin(), sampled.rewards.end());
  std::size_t token = 0;
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    rewards[i] += OverlongPenalty(sampled.lengths[i], rule.options);
    for (int t = 0; t < sampled.lengths[i]; ++t, ++token) {
      const double d = penalised ? sampled.old_logp[token] - sampled.ref_logp[token] : 0;
      if (penalised) rewards[i] -= rule.options.beta * MistakenKl(d, rule).value;
    }
  }
  return rewards;
}

double BaselineOf(double reward, std::span<const double> group, const LossRule& rule) {
  const double sum = SumOf(group), size = static_cast<double>(group.size());
  if (rule.options.baseline == Baseline::kNone) return 0;
  if (rule.options.baseline == Baseline::kGroupMean) return sum / size;
  return (sum - reward) / (rule.advantages.others_divided_by_group ? size : size - 1);
}

double DivisorOf(std::span<const double> rewards, const AdvantageMistakes& m) {
  const double variance = MomentsOf(rewards, 0, m.bessel).variance;
  return m.epsilon_in_root ? std::sqrt(variance + m.scale_epsilon) : std::sqrt(variance) + m.scale_epsilon;
}

std::vector<double> CentredAndScaled(std::span<const double> rewards, std::size_t group_size, const LossRule& rule) {
  std::vector<double> advantages;
  for (std::size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const std::span<const double> group = rewards.subspan(begin, group_size);
    double divisor = 1;
    if (rule.options.scale_rewards == RewardScale::kGroup) divisor = DivisorOf(group, rule.advantages);
    if (rule.options.scale_rewards == RewardScale::kBatch) divisor = DivisorOf(rewards, rule.advantages);
    for (double r : group) {
      const double baseline = BaselineOf(r, group, rule);
      advantages.push_back(rule.advantages.baseline_undivided ? r / divisor - baseline : (r - baseline) / divisor);
    }
  }
  return advantages;
}

void SubtractKlToGo(std::span<double> advantages, std::span<const double> old_logp, std::span<const double> ref_logp,
                    const LossRule& rule) {
  double later = 0;
  for (std::size_t t = advantages.size(); t-- > 0;) {
    const double own = MistakenKl(old_logp[t] - ref_logp[t], rule).value;
    advantages[t] -= rule.options.beta * (later + (rule.advantages.own_kl_to_go ? own : 0));
    later += own;
  }
}

void Whiten(std::span<double> values, std::size_t zeros, bool bessel) {
  if (values.empty()) return;
  const auto [mean, variance] = MomentsOf(values, zeros, bessel);
  for (double& v : values) v = (v - mean) / std::sqrt(variance + 1e-8);
}

}  // namespace

std::vector<double> MistakenAdvantages(const SampledTokens& sampled, const LossRule& rule, std::size_t padding) {
  const AdvantageMistakes& m = rule.advantages;
  const auto group_size = static_cast<std::size_t>(sampled.group_size);
  const std::vector<double> of_completion = CentredAndScaled(ShapedRewards(sampled, rule), group_size, rule);
  std::vector<double> advantages;
  std::size_t group_begin = 0;
  for (std::size_t i = 0; i < of_completion.size(); ++i) {
    const std::size_t begin = advantages.size(), length = static_cast<std::size_t>(sampled.lengths[i]);
    advantages.insert(advantages.end(), length, of_completion[i]);
    if (rule.options.beta != 0 && rule.options.kl_in == KlPlace::kReturn) {
      SubtractKlToGo(std::span(advantages).subspan(begin), sampled.old_logp.subspan(begin, length),
                     sampled.ref_logp.subspan(begin, length), rule);
    }
    if ((i + 1) % group_size != 0) continue;
    if (rule.options.whiten && m.whitened == Whitened::kByGroup) {
      Whiten(std::span(advantages).subspan(group_begin), 0, m.whiten_bessel);
    }
    group_begin = advantages.size();
  }
  if (rule.options.whiten && m.whitened != Whitened::kByGroup) {
    Whiten(advantages, m.whitened == Whitened::kWithPadding ? padding : 0, m.whiten_bessel);
  }
  for (double& a : advantages) a *= m.sign;
  return advantages;
}

}  // namespace swarr::oracle
