// SPDX-License-Identifier: Apache-2.0
#include "rl/objective.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/check.h"

namespace swarr {
namespace {

double MeanOf(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// With Bessel's correction; 0 for a single value.
double VarianceOf(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = MeanOf(values);
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return squares / static_cast<double>(values.size() - 1);
}

// r_i: rewards with the overlong penalty and, where it belongs there, the KL.
std::vector<double> ShapedRewards(const SampledTokens& sampled, const ObjectiveOptions& options) {
  std::vector<double> rewards(sampled.rewards.begin(), sampled.rewards.end());
  const bool penalised = options.beta != 0 && options.kl_in == KlPlace::kReward;
  std::size_t token = 0;
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    rewards[i] += OverlongPenalty(sampled.lengths[i], options);
    for (int t = 0; t < sampled.lengths[i]; ++t, ++token) {
      if (penalised) {
        rewards[i] -= options.beta * EvaluateKl(sampled.old_logp[token] - sampled.ref_logp[token], options.kl).value;
      }
    }
  }
  return rewards;
}

// (r_i - baseline) / scale, in place.
void CentreAndScale(std::span<double> rewards, std::size_t group_size, const ObjectiveOptions& options) {
  const double batch_deviation = std::sqrt(VarianceOf(rewards));
  for (std::size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const std::span<double> group = rewards.subspan(begin, group_size);
    const bool spread = HasSpread(group);
    const double mean = MeanOf(group), sum = std::accumulate(group.begin(), group.end(), 0.0);
    const double deviation =
        options.scale_rewards == RewardScale::kGroup ? std::sqrt(VarianceOf(group)) : batch_deviation;
    for (double& r : group) {
      if (options.baseline == Baseline::kGroupMean) r = spread ? r - mean : 0.0;
      if (options.baseline == Baseline::kLeaveOneOut) {
        r = spread ? r - (sum - r) / static_cast<double>(group_size - 1) : 0.0;
      }
      if (options.scale_rewards != RewardScale::kNone) r /= deviation + 1e-4;
    }
  }
}

// beta times the sum of the KL of a token and all later ones of its completion, off its advantage.
void SubtractKlToGo(std::span<double> advantages, std::span<const double> old_logp, std::span<const double> ref_logp,
                    const ObjectiveOptions& options) {
  double to_go = 0;
  for (std::size_t t = advantages.size(); t-- > 0;) {
    to_go += EvaluateKl(old_logp[t] - ref_logp[t], options.kl).value;
    advantages[t] -= options.beta * to_go;
  }
}

void Whiten(std::span<double> values) {
  if (values.empty()) return;
  const double mean = MeanOf(values), scale = 1.0 / std::sqrt(VarianceOf(values) + 1e-8);
  for (double& v : values) v = (v - mean) * scale;
}

// Of a completion's tokens: rho_t, one value for all where it is the sequence's.
double Ratio(const CompletionTokens& c, std::size_t t, double sequence_ratio, RatioKind kind) {
  return kind == RatioKind::kToken ? std::exp(c.logp[t] - c.old_logp[t]) : sequence_ratio;
}

double SequenceRatio(const CompletionTokens& c, RatioKind kind) {
  double d = 0;
  for (std::size_t t = 0; t < c.logp.size(); ++t) d += c.logp[t] - c.old_logp[t];
  return std::exp(kind == RatioKind::kSequenceMean ? d / static_cast<double>(c.logp.size()) : d);
}

// The policy's term at a ratio, and its derivatives with respect to log rho and to log p where that stands by itself.
struct PolicyTerm {
  double value, by_log_ratio, by_logp;
  bool clipped;
};

PolicyTerm EvaluatePolicy(double logp, double ratio, double advantage, const ObjectiveOptions& options) {
  if (options.ratio == RatioKind::kNone) return {-advantage * logp, 0, -advantage, false};
  if (options.clip == ClipKind::kWeight) {
    const double factor = std::min(ratio, 1.0 + options.epsilon_high);
    return {-factor * advantage * logp, 0, -factor * advantage, factor != ratio};
  }
  if (options.clip == ClipKind::kPpo) {
    const double kept = std::clamp(ratio, 1.0 - options.epsilon, 1.0 + options.epsilon_high);
    // The smaller of the two products is the clipped one only where the ratio has gone too far in the advantage's
    // direction; there it is a constant.
    if (kept * advantage < ratio * advantage) return {-kept * advantage, 0, 0, true};
  }
  return {-ratio * advantage, -ratio * advantage, 0, false};  // d rho / d log rho = rho
}

}  // namespace

void CheckObjective(const ObjectiveOptions& o) {
  const auto require = [](bool holds, const char* sentence) {
    if (!holds) throw UsageError(sentence);
  };
  require(o.ratio != RatioKind::kNone || o.clip == ClipKind::kNone,
          "without a ratio (ratio none) there is nothing to clip; set clip to none, or choose a ratio");
  require(o.epsilon >= 0 && o.epsilon_high >= 0, "epsilon and epsilon-high must be 0 or more");
  require(o.beta >= 0, "beta, the weight of the KL, must be 0 or more");
  require(o.overlong_share >= 0 && o.overlong_share <= 1, "overlong-share must be between 0 and 1");
  require((o.aggregation != Aggregation::kConstant && o.overlong_share == 0) || o.max_completion_length > 0,
          "the constant normaliser and the overlong penalty need the longest completion's length");
  require(o.scale_rewards == RewardScale::kNone || o.baseline != Baseline::kNone,
          "rewards are divided by their standard deviation only after a baseline is subtracted; set scale-rewards to "
          "none, or choose a baseline");
  require(
      !o.dynamic_sampling || o.baseline != Baseline::kNone,
      "dynamic sampling drops groups whose rewards are all equal, which teach nothing only where there is a baseline; "
      "choose one, or do without dynamic sampling");
}

double OverlongPenalty(int length, const ObjectiveOptions& options) {
  const double buffer = options.overlong_share * options.max_completion_length;
  const double over = length - (options.max_completion_length - buffer);
  return buffer > 0 && over > 0 ? -std::min(over / buffer, 1.0) : 0.0;
}

bool HasSpread(std::span<const double> values) {
  return std::any_of(values.begin(), values.end(), [&](double v) { return v != values[0]; });
}

std::vector<double> Advantages(const SampledTokens& sampled, const ObjectiveOptions& options) {
  const auto size = static_cast<std::size_t>(sampled.group_size);
  SWARR_CHECK(sampled.group_size >= 1 && sampled.rewards.size() % size == 0, sampled.rewards.size(),
              " rewards are no whole number of groups of ", sampled.group_size);
  SWARR_CHECK(sampled.lengths.size() == sampled.rewards.size(), sampled.lengths.size(), " completions have ",
              sampled.rewards.size(), " rewards");
  std::vector<double> of_completion = ShapedRewards(sampled, options);
  CentreAndScale(of_completion, size, options);
  std::vector<double> advantages;
  for (std::size_t i = 0; i < of_completion.size(); ++i) {
    const std::size_t begin = advantages.size(), length = static_cast<std::size_t>(sampled.lengths[i]);
    advantages.insert(advantages.end(), length, of_completion[i]);
    if (options.beta != 0 && options.kl_in == KlPlace::kReturn) {
      SubtractKlToGo(std::span(advantages).subspan(begin), sampled.old_logp.subspan(begin, length),
                     sampled.ref_logp.subspan(begin, length), options);
    }
  }
  if (options.whiten) Whiten(advantages);
  return advantages;
}

std::vector<double> SequenceWeights(std::span<const int> lengths, const ObjectiveOptions& options) {
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const double count = static_cast<double>(lengths.size());
  std::vector<double> weights;
  for (int length : lengths) {
    double normaliser = tokens;
    if (options.aggregation == Aggregation::kSequenceMean) normaliser = count * length;
    if (options.aggregation == Aggregation::kConstant) normaliser = count * options.max_completion_length;
    if (options.aggregation == Aggregation::kSequenceSum) normaliser = count;
    weights.push_back(normaliser > 0 ? 1.0 / normaliser : 0.0);
  }
  return weights;
}

KlTerm EvaluateKl(double d, KlEstimator estimator) {
  if (estimator == KlEstimator::kK1) return {d, 1.0};
  if (estimator == KlEstimator::kK2) return {0.5 * d * d, d};
  return {std::exp(-d) + d - 1.0, 1.0 - std::exp(-d)};
}

// With a sequence's ratio s = exp(c sum_t d_t), c = 1 or 1/T, every log p_u moves the terms of all tokens:
//   dL/dlog p_u = w c sum_t dterm_t/dlog s
CompletionLoss EvaluateCompletion(const CompletionTokens& c, const ObjectiveOptions& options) {
  CompletionLoss result;
  const std::size_t length = c.logp.size();
  const bool of_sequence = options.ratio == RatioKind::kSequence || options.ratio == RatioKind::kSequenceMean;
  const bool has_kl = options.beta != 0 && options.kl_in == KlPlace::kLoss;
  const double sequence_ratio = of_sequence && length > 0 ? SequenceRatio(c, options.ratio) : 1.0;
  double by_log_ratio = 0;  // of a sequence's ratio
  for (std::size_t t = 0; t < length; ++t) {
    const PolicyTerm policy =
        EvaluatePolicy(c.logp[t], Ratio(c, t, sequence_ratio, options.ratio), c.advantage[t], options);
    c.term[t] = policy.value;
    double derivative = policy.by_logp;
    if (of_sequence) {
      by_log_ratio += policy.by_log_ratio;
    } else {
      derivative += policy.by_log_ratio;
    }
    if (has_kl) {
      const KlTerm kl = EvaluateKl(c.logp[t] - c.ref_logp[t], options.kl);
      c.term[t] += options.beta * kl.value;
      derivative += options.beta * kl.derivative;
      result.kl += kl.value;
    }
    if (options.entropy_coef != 0) c.term[t] -= options.entropy_coef * c.entropy[t];
    c.dlogp[t] = c.weight * derivative;
    result.loss += c.weight * c.term[t];
    result.clipped += policy.clipped;
  }
  if (options.ratio == RatioKind::kSequenceMean) by_log_ratio /= static_cast<double>(length);
  if (of_sequence) {
    for (double& d : c.dlogp) d += c.weight * by_log_ratio;
  }
  return result;
}

}  // namespace swarr
