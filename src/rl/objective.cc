// SPDX-License-Identifier: Apache-2.0
#include "rl/objective.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

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

// r_i: weighted rewards with the overlong penalty and, where it belongs there, the KL.
std::vector<double> ShapedRewards(const SampledTokens& sampled, const ObjectiveOptions& options) {
  std::vector<double> rewards(sampled.rewards.begin(), sampled.rewards.end());
  const bool penalised = options.beta != 0 && options.kl_in == KlPlace::kReward;
  std::size_t token = 0;
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    rewards[i] = options.reward_weight * rewards[i] + OverlongPenalty(sampled.lengths[i], options);
    for (int t = 0; t < sampled.lengths[i]; ++t, ++token) {
      if (penalised) {
        rewards[i] -= options.beta * EvaluateKl(sampled.old_logp[token] - sampled.ref_logp[token], options.kl).value;
      }
    }
  }
  return rewards;
}

// What is subtracted from a reward of a group.
double BaselineOf(double reward, std::span<const double> group, Baseline baseline) {
  const double sum = std::accumulate(group.begin(), group.end(), 0.0);
  switch (baseline) {
    case Baseline::kNone:
      return 0;
    case Baseline::kGroupMean:
      return MeanOf(group);
    case Baseline::kLeaveOneOut:
      return (sum - reward) / static_cast<double>(group.size() - 1);
  }
  throw Error("there is no such baseline");
}

// What the rest is divided by.
double ScaleOf(std::span<const double> group, std::span<const double> all, RewardScale scale) {
  switch (scale) {
    case RewardScale::kNone:
      return 1;
    case RewardScale::kGroup:
      return std::sqrt(VarianceOf(group)) + 1e-4;
    case RewardScale::kBatch:
      return std::sqrt(VarianceOf(all)) + 1e-4;
  }
  throw Error("there is no such scale");
}

// (r_i - baseline) / scale.
std::vector<double> CentredAndScaled(std::span<const double> rewards, std::size_t group_size,
                                     const ObjectiveOptions& options) {
  std::vector<double> result;
  for (std::size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const std::span<const double> group = rewards.subspan(begin, group_size);
    const bool teaches = options.baseline == Baseline::kNone || HasSpread(group);
    const double scale = ScaleOf(group, rewards, options.scale_rewards);
    for (double r : group) result.push_back(teaches ? (r - BaselineOf(r, group, options.baseline)) / scale : 0.0);
  }
  return result;
}

// beta times the KL of a token, with kReturn and that of all later ones of its completion, off its advantage.
void SubtractKl(std::span<double> advantages, std::span<const double> old_logp, std::span<const double> ref_logp,
                const ObjectiveOptions& options) {
  double later = 0;
  for (std::size_t t = advantages.size(); t-- > 0;) {
    const double kl = later + EvaluateKl(old_logp[t] - ref_logp[t], options.kl).value;
    advantages[t] -= options.beta * kl;
    if (options.kl_in == KlPlace::kReturn) later = kl;
  }
}

void Whiten(std::span<double> values) {
  if (values.empty()) return;
  const double mean = MeanOf(values), scale = 1.0 / std::sqrt(VarianceOf(values) + 1e-8);
  for (double& v : values) v = (v - mean) * scale;
}

// log rho_t; `sum` is that of d over the completion.
double LogRatio(const CompletionTokens& c, std::size_t t, double sum, RatioKind kind) {
  switch (kind) {
    case RatioKind::kNone:
      return 0;
    case RatioKind::kToken:
      return c.logp[t] - c.old_logp[t];
    case RatioKind::kSequence:
      return sum;
    case RatioKind::kSequenceMean:
      return sum / static_cast<double>(c.logp.size());
  }
  throw Error("there is no such ratio");
}

// Whether one ratio serves all tokens of a completion.
bool IsOfSequence(RatioKind kind) {
  switch (kind) {
    case RatioKind::kNone:
    case RatioKind::kToken:
      return false;
    case RatioKind::kSequence:
    case RatioKind::kSequenceMean:
      return true;
  }
  throw Error("there is no such ratio");
}

// The policy's term at a ratio, and its derivatives with respect to log rho and to log p where that stands by itself.
struct PolicyTerm {
  double value, by_log_ratio, by_logp;
  bool clipped;
};

PolicyTerm EvaluatePolicy(double logp, double ratio, double advantage, const ObjectiveOptions& options) {
  if (options.ratio == RatioKind::kNone) return {-advantage * logp, 0, -advantage, false};
  switch (options.clip) {
    case ClipKind::kNone:
      break;
    case ClipKind::kPpo: {
      const double kept = std::clamp(ratio, 1.0 - options.epsilon, 1.0 + options.epsilon_high);
      // The smaller of the two products is the clipped one only where the ratio has gone too far in the advantage's
      // direction; there it is a constant.
      if (kept * advantage < ratio * advantage) return {-kept * advantage, 0, 0, true};
      break;
    }
    case ClipKind::kWeight: {
      const double factor = std::min(ratio, 1.0 + options.epsilon_high);
      return {-factor * advantage * logp, 0, -factor * advantage, factor != ratio};
    }
  }
  return {-ratio * advantage, -ratio * advantage, 0, false};  // d rho / d log rho = rho
}

}  // namespace

const std::vector<NamedObjective>& NamedObjectives() {
  static const std::vector<NamedObjective> kTable = {
      {"reinforce",
       {.ratio = RatioKind::kNone,
        .clip = ClipKind::kNone,
        .aggregation = Aggregation::kSequenceSum,
        .kl = KlEstimator::kK1,
        .kl_in = KlPlace::kReward}},
      {"rloo",
       {.baseline = Baseline::kLeaveOneOut,
        .ratio = RatioKind::kSequence,
        .aggregation = Aggregation::kSequenceMean,
        .kl = KlEstimator::kK1,
        .kl_in = KlPlace::kReward}},
      {"reinforce++", {.baseline = Baseline::kNone, .whiten = true, .kl = KlEstimator::kK1, .kl_in = KlPlace::kReturn}},
      {"reinforce++-baseline", {.whiten = true, .kl = KlEstimator::kK2}},
      {"grpo", {.scale_rewards = RewardScale::kGroup, .aggregation = Aggregation::kSequenceMean}},
      {"dr_grpo", {.aggregation = Aggregation::kConstant}},
      {"dapo",
       {.scale_rewards = RewardScale::kGroup, .epsilon_high = 0.28, .dynamic_sampling = true, .overlong_share = 0.2}},
      {"gspo",
       {.scale_rewards = RewardScale::kGroup,
        .ratio = RatioKind::kSequenceMean,
        .epsilon = 3e-4,
        .epsilon_high = 4e-4,
        .aggregation = Aggregation::kSequenceMean}},
      {"cispo", {.scale_rewards = RewardScale::kGroup, .clip = ClipKind::kWeight, .epsilon_high = 4}},
      {"opd",
       {.reward_weight = 0, .clip = ClipKind::kNone, .kl = KlEstimator::kK1, .kl_in = KlPlace::kAdvantage, .beta = 1}},
  };
  return kTable;
}

void CheckObjective(const ObjectiveOptions& o) {
  const auto require = [](bool holds, const char* sentence) {
    if (!holds) throw UsageError(sentence);
  };
  require(o.ratio != RatioKind::kNone || o.clip == ClipKind::kNone,
          "without a ratio (ratio none) there is nothing to clip; set clip to none, or choose a ratio");
  require(o.epsilon >= 0 && o.epsilon_high >= 0, "epsilon and epsilon-high must be 0 or more");
  require(o.beta >= 0, "beta, the weight of the KL, must be 0 or more");
  require(o.reward_weight >= 0, "reward-weight must be 0 or more");
  require(o.reward_weight > 0 || o.beta > 0 || o.entropy_coef != 0,
          "with reward-weight 0 and beta 0 there is nothing to learn from; set one of them");
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
  const std::vector<double> of_completion = CentredAndScaled(ShapedRewards(sampled, options), size, options);
  std::vector<double> advantages;
  for (std::size_t i = 0; i < of_completion.size(); ++i) {
    const std::size_t begin = advantages.size(), length = static_cast<std::size_t>(sampled.lengths[i]);
    advantages.insert(advantages.end(), length, of_completion[i]);
    if (options.beta == 0) continue;
    switch (options.kl_in) {
      case KlPlace::kLoss:    // EvaluateCompletion adds it
      case KlPlace::kReward:  // ShapedRewards has subtracted it
        break;
      case KlPlace::kReturn:
      case KlPlace::kAdvantage:
        SubtractKl(std::span(advantages).subspan(begin), sampled.old_logp.subspan(begin, length),
                   sampled.ref_logp.subspan(begin, length), options);
    }
  }
  if (options.whiten) Whiten(advantages);
  return advantages;
}

std::vector<double> SequenceWeights(std::span<const int> lengths, const ObjectiveOptions& options) {
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const double count = static_cast<double>(lengths.size());
  const auto divisor = [&](int length) {
    switch (options.aggregation) {
      case Aggregation::kTokenMean:
        return tokens;
      case Aggregation::kSequenceMean:
        return count * length;
      case Aggregation::kConstant:
        return count * options.max_completion_length;
      case Aggregation::kSequenceSum:
        return count;
    }
    throw Error("there is no such aggregation");
  };
  std::vector<double> weights;
  for (int length : lengths) weights.push_back(divisor(length) > 0 ? 1.0 / divisor(length) : 0.0);
  return weights;
}

KlTerm EvaluateKl(double d, KlEstimator estimator) {
  switch (estimator) {
    case KlEstimator::kK1:
      return {d, 1.0};
    case KlEstimator::kK2:
      return {0.5 * d * d, d};
    case KlEstimator::kK3:
      return {std::exp(-d) + d - 1.0, 1.0 - std::exp(-d)};
  }
  throw Error("there is no such KL estimator");
}

// With a sequence's ratio s = exp(c sum_t d_t), c = 1 or 1/T, every log p_u moves the terms of all tokens:
//   dL/dlog p_u = w c sum_t dterm_t/dlog s
CompletionLoss EvaluateCompletion(const CompletionTokens& c, const ObjectiveOptions& options) {
  CompletionLoss result;
  const std::size_t length = c.logp.size();
  const bool of_sequence = IsOfSequence(options.ratio);
  const bool has_kl = options.beta != 0 && options.kl_in == KlPlace::kLoss;
  double sum = 0;  // of d
  for (std::size_t t = 0; t < length; ++t) sum += c.logp[t] - c.old_logp[t];
  double by_log_ratio = 0;  // of a sequence's ratio
  for (std::size_t t = 0; t < length; ++t) {
    const double ratio = std::exp(LogRatio(c, t, sum, options.ratio));
    const PolicyTerm policy = EvaluatePolicy(c.logp[t], ratio, c.advantage[t], options);
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
