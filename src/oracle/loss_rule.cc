// SPDX-License-Identifier: Apache-2.0
#include "oracle/loss_rule.h"

#include <algorithm>
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

// The completions in the order in which their groups are consecutive: place p holds completion order[p].
std::vector<std::size_t> GroupOrder(std::size_t completions, int group_size, Groups groups) {
  std::vector<std::size_t> order(completions);
  std::iota(order.begin(), order.end(), 0);
  if (groups != Groups::kInterleaved) return order;
  const std::size_t stride = completions / static_cast<std::size_t>(group_size);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return a % stride < b % stride; });
  return order;
}

// Advantages per token, in the order of the tokens of `sampled`. `padding` tokens have been left out.
std::vector<double> GroupedAdvantages(const Sampled& sampled, std::size_t padding, const Value& rewards,
                                      const std::vector<double>& old_logp, const std::vector<double>& ref_logp,
                                      const LossRule& rule, int group_size) {
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
  const SampledTokens tokens{lengths, size, ordered_rewards, ordered_old, ordered_ref};
  const std::vector<double> ordered =
      rule.truth ? Advantages(tokens, rule.options) : MistakenAdvantages(tokens, rule, padding);
  std::vector<double> advantages(ordered.size());
  std::size_t next = 0;
  for (std::size_t i : order) {
    for (std::size_t n = begin[i]; n < begin[i + 1]; ++n) advantages[n] = ordered[next++];
  }
  return advantages;
}

// What each completion is taken to hold.
std::vector<int> CountedLengths(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule) {
  const bool token_mean = rule.options.aggregation == Aggregation::kTokenMean;
  const bool padded = rule.count == Count::kPadded || (rule.count == Count::kPaddedInTokenMean && token_mean) ||
                      (rule.count == Count::kPaddedInSequenceMean && !token_mean);
  return padded ? std::vector<int>(sampled.size(), static_cast<int>(T)) : sampled;
}

std::vector<double> Weights(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule, int group_size) {
  const std::vector<int> lengths = CountedLengths(sampled, T, rule);
  const double count = static_cast<double>(lengths.size());
  ObjectiveOptions options = rule.options;
  if (rule.count == Count::kPaddedWidth) options.max_completion_length = static_cast<int>(T);
  if (rule.count == Count::kLongestSampled) {
    options.max_completion_length = *std::max_element(lengths.begin(), lengths.end());
  }
  std::vector<double> weights = SequenceWeights(lengths, options);
  if (rule.count == Count::kNoEmpty && options.aggregation != Aggregation::kTokenMean) {
    const auto empty = static_cast<double>(std::count(lengths.begin(), lengths.end(), 0));
    for (double& w : weights) w *= count / (count - empty);
  }
  if (rule.count != Count::kByGroup) return weights;
  weights.clear();
  const auto size = static_cast<std::size_t>(group_size);
  for (std::size_t begin = 0; begin < lengths.size(); begin += size) {
    for (double w : SequenceWeights(std::span(lengths).subspan(begin, size), options)) {
      weights.push_back(w * static_cast<double>(size) / count);
    }
  }
  return weights;
}

struct Terms {
  std::vector<double> term, dlogp;
};

// The policy's part alone.
Terms Policy(CompletionTokens c, const LossRule& rule) {
  Terms terms{std::vector<double>(c.logp.size()), std::vector<double>(c.logp.size())};
  c.term = terms.term;
  c.dlogp = terms.dlogp;
  ObjectiveOptions options = rule.options;
  options.beta = options.entropy_coef = 0;
  rule.truth ? void(EvaluateCompletion(c, options)) : MistakenPolicy(c, rule);
  return terms;
}

// KL and entropy: what is left where there is no advantage.
Terms Rest(CompletionTokens c, const LossRule& rule) {
  Terms terms{std::vector<double>(c.logp.size()), std::vector<double>(c.logp.size())};
  c.term = terms.term;
  c.dlogp = terms.dlogp;
  const std::vector<double> none(c.logp.size(), 0.0);
  c.advantage = none;
  ObjectiveOptions options = rule.options;
  options.ratio = RatioKind::kNone;
  options.clip = ClipKind::kNone;
  rule.truth ? void(EvaluateCompletion(c, options)) : MistakenRest(c, rule);
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
  std::vector<double> advantage = GroupedAdvantages(sampled, mask.data.size() - logp.size(), inputs.at("rewards"),
                                                    old_logp, rule.kl.from_old ? old_logp : ref_logp, rule, group_size);
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
    const CompletionTokens c{part(logp), part(old_logp), part(ref_logp), part(entropy), part(advantage), weight, {},
                             {}};
    const Terms policy = Policy(c, rule), rest = Rest(c, rule);
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
