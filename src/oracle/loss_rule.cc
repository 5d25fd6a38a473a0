// SPDX-License-Identifier: Apache-2.0
#include "oracle/loss_rule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace swarr::oracle {
namespace {

// The tokens of a batch that count, completion after completion, and where each stands in [B, T].
struct Sampled {
  std::vector<int> lengths;
  std::vector<std::size_t> places;
};

Sampled Gather(const Value& mask, Tokens tokens) {
  const auto T = static_cast<std::size_t>(mask.dim(1));
  Sampled sampled;
  for (std::size_t row = 0; row < mask.data.size(); row += T) {
    std::vector<std::size_t> places;
    for (std::size_t t = 0; t < T; ++t) {
      if (mask.data[row + t] != 0 || tokens == Tokens::kAll) places.push_back(row + t);
    }
    if (tokens == Tokens::kNoLast && !places.empty()) places.pop_back();
    if (tokens == Tokens::kNoFirst && !places.empty()) places.erase(places.begin());
    sampled.lengths.push_back(static_cast<int>(places.size()));
    sampled.places.insert(sampled.places.end(), places.begin(), places.end());
  }
  return sampled;
}

std::vector<double> Picked(const Value& value, const std::vector<std::size_t>& places) {
  std::vector<double> picked;
  for (std::size_t place : places) picked.push_back(value.data[place]);
  return picked;
}

double Deviation(std::span<const double> values, bool bessel) {
  const double n = static_cast<double>(values.size()), mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / (bessel ? std::max(1.0, n - 1) : n));
}

// What the mistaken divisor makes of an advantage that was divided by s + 1e-4.
void Rescale(std::span<double> advantages, std::span<const double> rewards, const LossRule& rule) {
  const double right = Deviation(rewards, true) + 1e-4, wrong = Deviation(rewards, rule.bessel) + rule.scale_epsilon;
  for (double& a : advantages) a *= right / wrong;
}

// Of completions in consecutive groups.
std::vector<double> AdvantagesOf(const SampledTokens& sampled, const LossRule& rule) {
  std::vector<double> advantages = Advantages(sampled, rule.options);
  const bool whole = rule.options.scale_rewards == RewardScale::kBatch;
  if (rule.options.scale_rewards != RewardScale::kNone && (!rule.bessel || rule.scale_epsilon != 1e-4)) {
    const std::size_t size = whole ? sampled.rewards.size() : static_cast<std::size_t>(sampled.group_size);
    std::size_t begin = 0;
    for (std::size_t g = 0; g < sampled.rewards.size(); g += size) {
      const std::span<const int> lengths = sampled.lengths.subspan(g, size);
      const auto tokens = static_cast<std::size_t>(std::accumulate(lengths.begin(), lengths.end(), 0));
      Rescale(std::span(advantages).subspan(begin, tokens), sampled.rewards.subspan(g, size), rule);
      begin += tokens;
    }
  }
  const double n = static_cast<double>(advantages.size());
  const double whitening = rule.options.whiten && !rule.whiten_bessel ? std::sqrt(n / (n - 1)) : 1.0;
  for (double& a : advantages) a *= rule.advantage_sign * whitening;
  return advantages;
}

// The completions in the order in which their groups are consecutive: place p holds completion order[p].
std::vector<std::size_t> GroupOrder(std::size_t completions, int group_size, Groups groups) {
  std::vector<std::size_t> order(completions);
  std::iota(order.begin(), order.end(), 0);
  if (groups != Groups::kInterleaved) return order;
  const std::size_t stride = completions / static_cast<std::size_t>(group_size);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return a % stride < b % stride; });
  return order;
}

// Advantages per token, in the order of the tokens of `sampled`.
std::vector<double> GroupedAdvantages(const Sampled& sampled, const Value& rewards, const std::vector<double>& old_logp,
                                      const std::vector<double>& ref_logp, const LossRule& rule, int group_size) {
  std::vector<std::size_t> begin(sampled.lengths.size() + 1, 0);
  std::partial_sum(sampled.lengths.begin(), sampled.lengths.end(), begin.begin() + 1);
  const std::vector<std::size_t> order = GroupOrder(sampled.lengths.size(), group_size, rule.groups);
  std::vector<int> lengths;
  std::vector<double> ordered_rewards, ordered_old, ordered_ref;
  for (std::size_t i : order) {
    lengths.push_back(sampled.lengths[i]);
    ordered_rewards.push_back(rewards.data[i]);
    for (std::size_t n = begin[i]; n < begin[i + 1]; ++n) {
      ordered_old.push_back(old_logp[n]);
      ordered_ref.push_back(ref_logp[n]);
    }
  }
  const int size = rule.groups == Groups::kOne ? static_cast<int>(order.size()) : group_size;
  const std::vector<double> ordered = AdvantagesOf({lengths, size, ordered_rewards, ordered_old, ordered_ref}, rule);
  std::vector<double> advantages(ordered.size());
  std::size_t next = 0;
  for (std::size_t i : order) {
    for (std::size_t n = begin[i]; n < begin[i + 1]; ++n) advantages[n] = ordered[next++];
  }
  return advantages;
}

std::vector<double> Weights(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule, int group_size) {
  std::vector<int> lengths = sampled;
  ObjectiveOptions options = rule.options;
  if (rule.count == Count::kMaskedToo) std::fill(lengths.begin(), lengths.end(), static_cast<int>(T));
  if (rule.count == Count::kLongestSampled) {
    options.max_completion_length = *std::max_element(lengths.begin(), lengths.end());
  }
  if (rule.count == Count::kNoEmpty && options.aggregation != Aggregation::kTokenMean) {
    const auto empty = static_cast<double>(std::count(lengths.begin(), lengths.end(), 0));
    std::vector<double> weights = SequenceWeights(lengths, options);
    for (double& w : weights) w *= static_cast<double>(lengths.size()) / (static_cast<double>(lengths.size()) - empty);
    return weights;
  }
  if (rule.count != Count::kByGroup) return SequenceWeights(lengths, options);
  std::vector<double> weights;
  const auto size = static_cast<std::size_t>(group_size);
  for (std::size_t begin = 0; begin < lengths.size(); begin += size) {
    for (double w : SequenceWeights(std::span(lengths).subspan(begin, size), options)) {
      weights.push_back(w * static_cast<double>(size) / static_cast<double>(lengths.size()));
    }
  }
  return weights;
}

// One completion's tokens.
struct Part {
  std::span<const double> logp, old_logp, ref_logp, entropy, advantage;
  double weight;
};

struct Terms {
  std::vector<double> term, dlogp;
};

Terms Evaluate(const Part& p, std::span<const double> logp, std::span<const double> old_logp,
               std::span<const double> ref_logp, std::span<const double> advantage, const ObjectiveOptions& options) {
  Terms terms{std::vector<double>(logp.size()), std::vector<double>(logp.size())};
  EvaluateCompletion({logp, old_logp, ref_logp, p.entropy, advantage, p.weight, terms.term, terms.dlogp}, options);
  return terms;
}

std::vector<double> Negated(std::span<const double> values) {
  std::vector<double> negated(values.begin(), values.end());
  for (double& v : negated) v = -v;
  return negated;
}

// The policy's part alone.
Terms Policy(const Part& p, const LossRule& rule) {
  ObjectiveOptions options = rule.options;
  options.beta = options.entropy_coef = 0;
  const bool has_ratio = options.ratio != RatioKind::kNone;
  const bool turned = rule.inverse_ratio && has_ratio;  // exp(-d): the ratio of the negated logarithms
  const std::vector<double> logp = turned ? Negated(p.logp) : std::vector<double>(p.logp.begin(), p.logp.end());
  const std::vector<double> old =
      turned ? Negated(p.old_logp) : std::vector<double>(p.old_logp.begin(), p.old_logp.end());
  Terms terms = Evaluate(p, logp, old, {}, p.advantage, options);
  if (turned) terms.dlogp = Negated(terms.dlogp);
  if (rule.choice != Choice::kMinimum && options.clip == ClipKind::kPpo) {
    // -max(rho A, clip(rho) A) = min(rho (-A), clip(rho) (-A)): the term of -A, negated. It is the clipped product
    // just where the minimum is not.
    const Terms other = Evaluate(p, logp, old, {}, Negated(p.advantage), options);
    options.clip = ClipKind::kNone;
    const Terms unclipped = Evaluate(p, logp, old, {}, p.advantage, options);
    for (std::size_t t = 0; t < logp.size(); ++t) {
      const bool clips = -other.term[t] != unclipped.term[t];
      if (rule.choice == Choice::kMaximum || clips) {
        terms.term[t] = -other.term[t];
        terms.dlogp[t] = -other.dlogp[t];
      }
    }
  }
  if (!rule.ratio_in_gradient && options.ratio == RatioKind::kToken && options.clip == ClipKind::kPpo) {
    for (std::size_t t = 0; t < logp.size(); ++t) terms.dlogp[t] /= std::exp(p.logp[t] - p.old_logp[t]);
  }
  return terms;
}

// KL and entropy: what is left where there is no advantage.
Terms Rest(const Part& p, const LossRule& rule) {
  const std::vector<double> none(p.logp.size(), 0.0);
  std::span<const double> logp = p.logp, ref_logp = rule.kl_from_old ? p.old_logp : p.ref_logp;
  if (rule.kl_reversed) std::swap(logp, ref_logp);
  ObjectiveOptions options = rule.options;
  options.ratio = RatioKind::kNone;
  options.clip = ClipKind::kNone;
  Terms terms = Evaluate(p, logp, logp, ref_logp, none, options);
  if (rule.kl_reversed) terms.dlogp = Negated(terms.dlogp);
  if (!rule.kl_gradient) terms.dlogp = none;
  return terms;
}

}  // namespace

void LossRule::SetRatio(RatioKind ratio) {
  if (options.ratio == RatioKind::kNone) return;
  options.ratio = ratio;
  if (ratio == RatioKind::kNone) options.clip = ClipKind::kNone;
}

void LossRule::SetClip(ClipKind clip) {
  if (options.clip != ClipKind::kNone) options.clip = clip;
}

Values EvaluateLoss(const Values& inputs, const LossRule& rule, int group_size, Noise& noise) {
  const Value& mask = inputs.at("mask");
  const Sampled sampled = Gather(mask, rule.tokens);
  const auto picked = [&](const char* name) { return Picked(inputs.at(name), sampled.places); };
  const std::vector<double> logp = picked("logp"), old_logp = picked("old_logp"), ref_logp = picked("ref_logp"),
                            entropy = picked("entropy");
  std::vector<double> advantage = GroupedAdvantages(sampled, inputs.at("rewards"), old_logp,
                                                    rule.kl_from_old ? old_logp : ref_logp, rule, group_size);
  for (double& a : advantage) a = noise.Disturbed(a);
  const std::vector<double> weights = Weights(sampled.lengths, mask.dim(1), rule, group_size);

  Values outputs;
  for (const char* name : {"advantages", "terms", "dlogp"}) outputs[name] = Zeros(mask.shape);
  Value loss = Zeros({1}), dentropy = Zeros(mask.shape);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < sampled.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(sampled.lengths[i]);
    const auto part = [&](const std::vector<double>& values) { return std::span(values).subspan(begin, length); };
    const double weight = noise.Disturbed(weights[i]);
    const Part p{part(logp), part(old_logp), part(ref_logp), part(entropy), part(advantage), weight};
    const Terms policy = Policy(p, rule), rest = Rest(p, rule);
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t place = sampled.places[begin + t];
      const double term = noise.Disturbed(policy.term[t]) + noise.Disturbed(rest.term[t]);
      outputs["advantages"].data[place] = advantage[begin + t];
      outputs["terms"].data[place] = term;
      outputs["dlogp"].data[place] = noise.Disturbed(policy.dlogp[t]) + noise.Disturbed(rest.dlogp[t]);
      dentropy.data[place] = -rule.options.entropy_coef * weight;
      loss.data[0] += weight * noise.Disturbed(term);
    }
    begin += length;
  }
  outputs["loss"] = std::move(loss);
  outputs["dentropy"] = std::move(dentropy);
  return outputs;
}

}  // namespace swarr::oracle
