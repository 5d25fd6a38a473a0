// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/loss_rule.h"

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

// Brings groups that stand interleaved together.
Order GroupAfterGroup(std::int64_t completions, int group_size) {
  Order order(static_cast<std::size_t>(completions));
  std::iota(order.begin(), order.end(), 0);
  const std::int64_t groups = completions / group_size;
  std::ranges::stable_sort(order, {}, [&](std::int64_t i) { return i % groups; });
  return order;
}

// What each completion is taken to hold.
std::vector<int> CountedLengths(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule) {
  const bool token_mean = rule.aggregation == Aggregation::kTokenMean;
  const bool padded = rule.count == Count::kPadded || (rule.count == Count::kPaddedInTokenMean && token_mean) ||
                      (rule.count == Count::kPaddedInSequenceMean && !token_mean);
  return padded ? std::vector<int>(sampled.size(), static_cast<int>(T)) : sampled;
}

std::vector<double> Weights(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule, int group_size) {
  const std::vector<int> lengths = CountedLengths(sampled, T, rule);
  const double count = static_cast<double>(lengths.size());
  ObjectiveOptions options = rule;
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

// The policy's part alone, or the rest: KL and entropy, what is left where there is no advantage.
Terms TermsOf(CompletionTokens c, const LossRule& rule, bool policy) {
  const std::vector<double> zeros(c.logp.size());
  Terms terms{zeros, zeros};
  c.term = terms.term;
  c.dlogp = terms.dlogp;
  if (!rule.truth) {
    policy ? MistakenPolicy(c, rule) : MistakenRest(c, rule);
    return terms;
  }
  ObjectiveOptions options = rule;
  if (policy) {
    options.beta = options.entropy_coef = 0;
  } else {
    c.advantage = zeros;
    options.ratio = RatioKind::kNone;
    options.clip = ClipKind::kNone;
  }
  EvaluateCompletion(c, options);
  return terms;
}

}  // namespace

void LossRule::SetRatio(RatioKind kind) {
  if (ratio == RatioKind::kNone) return;
  ratio = kind;
  if (ratio == RatioKind::kNone) clip = ClipKind::kNone;
}

void LossRule::SetClip(ClipKind kind) {
  if (clip != ClipKind::kNone) clip = kind;
}

Values EvaluateLoss(const Values& inputs, const LossRule& rule, int group_size, Noise& noise) {
  const Value& mask = inputs.at("mask");
  if (rule.groups == Groups::kInterleaved) {
    const Order order = GroupAfterGroup(mask.dim(0), group_size);
    const auto reorder = [&](Values values, const Order& by) {
      for (auto& item : values) {
        if (item.second.dim(0) == mask.dim(0)) item.second = Reordered(item.second, by);
      }
      return values;
    };
    LossRule consecutive = rule;
    consecutive.groups = Groups::kConsecutive;
    return reorder(EvaluateLoss(reorder(inputs, order), consecutive, group_size, noise), Inverse(order));
  }
  const Sampled sampled = Gather(mask, rule.tokens);
  const auto picked = [&](const char* name) { return Picked(inputs.at(name), sampled.places); };
  const std::vector<double> logp = picked("logp"), old_logp = picked("old_logp"), ref_logp = picked("ref_logp"),
                            entropy = picked("entropy");
  const SampledTokens tokens{.lengths = sampled.lengths,
                             .group_size = rule.groups == Groups::kOne ? static_cast<int>(mask.dim(0)) : group_size,
                             .rewards = inputs.at("rewards").data,
                             .old_logp = old_logp,
                             .ref_logp = rule.kl_from_old ? old_logp : ref_logp};
  std::vector<double> advantage =
      rule.truth ? Advantages(tokens, rule) : MistakenAdvantages(tokens, rule, mask.data.size() - logp.size());
  for (double& a : advantage) a = noise.Disturbed(a);
  const std::vector<double> weights = Weights(sampled.lengths, mask.dim(1), rule, group_size);

  Value advantages = Zeros(mask.shape), terms = advantages, dlogp = advantages, dentropy = advantages;
  double loss = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < sampled.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(sampled.lengths[i]);
    const auto part = [&](const std::vector<double>& values) { return std::span(values).subspan(begin, length); };
    const double weight = noise.Disturbed(weights[i]);
    const CompletionTokens c{.logp = part(logp),
                             .old_logp = part(old_logp),
                             .ref_logp = part(ref_logp),
                             .entropy = part(entropy),
                             .advantage = part(advantage),
                             .weight = weight,
                             .term = {},
                             .dlogp = {}};
    const Terms policy = TermsOf(c, rule, true), rest = TermsOf(c, rule, false);
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t place = sampled.places[begin + t];
      const double term = noise.Disturbed(policy.term[t]) + noise.Disturbed(rest.term[t]);
      advantages.data[place] = advantage[begin + t];
      terms.data[place] = term;
      dlogp.data[place] = noise.Disturbed(policy.dlogp[t]) + noise.Disturbed(rest.dlogp[t]);
      dentropy.data[place] = -rule.entropy_coef * weight;
      loss += weight * noise.Disturbed(term);
    }
    begin += length;
  }
  return {
      {"advantages", advantages}, {"terms", terms}, {"dlogp", dlogp}, {"dentropy", dentropy}, {"loss", Scalar(loss)}};
}

}  // namespace swarr::oracle
