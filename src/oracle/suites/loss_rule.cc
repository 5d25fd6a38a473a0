// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/loss_rule.h"

#include <algorithm>
#include <cmath>

#include "rl/objective_names.h"

namespace swarr::oracle {
namespace {

// --- the terms of a completion's tokens and their derivatives, as people mistake them ---

// One ratio, and whose derivative counts: the ratio's logarithm moves with log p of this token, or of all.
struct Ratio {
  double value, by_log;  // d value / d log rho
};

double LogRatioOf(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  if (rule.ratio_is_one) return 0;
  const double d = c.logp[t] - c.old_logp[t];
  return rule.inverse_ratio ? -d : d;
}

Ratio RatioOf(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  const double sign = rule.inverse_ratio ? -1 : 1;
  if (rule.ratio == RatioKind::kToken) {
    const double ratio = std::exp(LogRatioOf(c, t, rule));
    return {ratio, sign * ratio};
  }
  double d = 0, sum = 0;  // of log rho, of rho
  for (std::size_t u = 0; u < c.logp.size(); ++u) {
    d += LogRatioOf(c, u, rule);
    sum += std::exp(LogRatioOf(c, u, rule));
  }
  const double count = rule.ratio == RatioKind::kSequenceMean ? static_cast<double>(c.logp.size()) : 1;
  if (rule.ratios_added) return {sum / count, sign * sum / count};
  if (rule.sequence_cut && d / count > 10) return {std::exp(10), 0};
  return {std::exp(d / count), sign * std::exp(d / count)};
}

// What the logarithm of a sequence's ratio moves by, as log p of one of its tokens moves by 1.
double ShareOf(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  if (rule.ratios_added) {
    double sum = 0;
    for (std::size_t u = 0; u < c.logp.size(); ++u) sum += std::exp(LogRatioOf(c, u, rule));
    return std::exp(LogRatioOf(c, t, rule)) / sum;
  }
  return rule.ratio == RatioKind::kSequenceMean ? 1.0 / static_cast<double>(c.logp.size()) : 1.0;
}

// A policy's term at a ratio, and its derivatives: by the logarithm of the ratio, and by log p where that stands by
// itself.
struct Term {
  double value, by_log_ratio, by_logp;
};

// clip = weight: the ratio is a factor of log p.
Term WeightTerm(double logp, Ratio ratio, double a, const LossRule& rule) {
  const double low = rule.weight_clipped_below ? 1 - rule.epsilon : 0;
  const double factor = std::clamp(ratio.value, low, std::max(low, 1 + rule.epsilon_high));
  const bool moves = rule.gradient_through_weight && factor == ratio.value;
  return {-factor * a * logp, moves ? -ratio.by_log * a * logp : 0, -factor * a};
}

// clip = ppo.
Term ClippedTerm(Ratio ratio, double a, const LossRule& rule) {
  const double kept = std::clamp(ratio.value, 1 - rule.epsilon, 1 + rule.epsilon_high);
  const double product = ratio.value * a, clipped = kept * a;
  bool clips = rule.choice == Choice::kClipped ? kept != ratio.value : clipped < product;
  if (rule.choice == Choice::kMaximum) clips = clipped > product;
  const double value = clips ? -clipped : -product;
  if (rule.dual_clip && a < 0 && value > -3 * a) return {-3 * a, 0, 0};
  if (clips) return {value, 0, 0};
  const bool by_token = rule.ratio == RatioKind::kToken;
  return {value, -a * (rule.ratio_in_gradient || !by_token ? ratio.by_log : ratio.by_log / ratio.value), 0};
}

Term PolicyTerm(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  const double a = c.advantage[t];
  if (rule.ratio == RatioKind::kNone) return {-a * c.logp[t], 0, -a};
  const Ratio ratio = RatioOf(c, t, rule);
  if (rule.clip == ClipKind::kWeight) return WeightTerm(c.logp[t], ratio, a, rule);
  if (rule.clip == ClipKind::kPpo) return ClippedTerm(ratio, a, rule);
  return {-ratio.value * a, -ratio.by_log * a, 0};
}

// What EvaluateCompletion() of rl/objective.h writes to `term` and `dlogp`, in two parts: the policy's; KL and entropy.
void MistakenPolicy(const CompletionTokens& c, const LossRule& rule) {
  const RatioKind kind = rule.ratio;
  const bool mean = kind == RatioKind::kSequenceMean;
  const bool shared = kind == RatioKind::kSequence || (mean && !rule.sequence_by_token);
  double by_shared_ratio = 0;
  for (std::size_t t = 0; t < c.logp.size(); ++t) {
    Term term = PolicyTerm(c, t, rule);
    if (rule.negated) term = {-term.value, -term.by_log_ratio, -term.by_logp};
    c.term[t] = term.value;
    c.dlogp[t] = c.weight * (term.by_logp + (shared ? 0 : term.by_log_ratio));
    by_shared_ratio += term.by_log_ratio;
  }
  for (std::size_t t = 0; shared && t < c.logp.size(); ++t) {
    c.dlogp[t] += c.weight * ShareOf(c, t, rule) * by_shared_ratio;
  }
}

// The estimate of a token's KL, with its derivative by the token's own log p.
KlTerm KlEstimateOf(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  const double sign = rule.kl_turned_in_loss ? -1 : 1;
  const double d = c.logp[t] - (rule.kl_from_old ? c.old_logp[t] : c.ref_logp[t]);
  const KlTerm kl = MistakenKl(sign * d, rule);
  return {kl.value, sign * kl.derivative + (rule.kl_score ? kl.value : 0)};
}

// The same where the loss holds a KL.
KlTerm KlOf(const CompletionTokens& c, std::size_t t, const LossRule& rule) {
  if (rule.beta == 0 || rule.kl_in != KlPlace::kLoss) return {0, 0};
  return KlEstimateOf(c, t, rule);
}

void MistakenRest(const CompletionTokens& c, const LossRule& rule) {
  const bool times_ratio = rule.kl_times_ratio && rule.ratio != RatioKind::kNone;
  const bool shared = rule.ratio != RatioKind::kToken;
  double by_shared_ratio = 0;
  for (std::size_t t = 0; t < c.logp.size(); ++t) {
    const KlTerm kl = KlOf(c, t, rule);
    const Ratio ratio = times_ratio ? RatioOf(c, t, rule) : Ratio{1, 0};
    by_shared_ratio += ratio.by_log * kl.value;
    c.term[t] = rule.beta * ratio.value * kl.value - rule.entropy_coef * c.entropy[t];
    const double derivative = ratio.value * kl.derivative + (shared ? 0 : ratio.by_log * kl.value);
    c.dlogp[t] = rule.kl_gradient ? c.weight * rule.beta * derivative : 0;
  }
  for (std::size_t t = 0; shared && t < c.logp.size(); ++t) {
    c.dlogp[t] += c.weight * rule.beta * ShareOf(c, t, rule) * by_shared_ratio;
  }
}

// --- the batch ---

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

// The elements at the tokens' places.
std::vector<double> Picked(const Value& value, const Sampled& sampled) {
  std::vector<double> picked;
  for (std::size_t place : sampled.places) picked.push_back(value.data[place]);
  return picked;
}

// Whether a completion is left out of the loss for its length.
bool IsLeftOut(int length, const LossRule& rule) {
  return rule.longest != Longest::kKept && length == rule.max_completion_length;
}

// What each completion is taken to hold.
std::vector<int> CountedLengths(std::vector<int> sampled, std::int64_t T, const LossRule& rule) {
  for (int& length : sampled) length = rule.longest == Longest::kLeftOut && IsLeftOut(length, rule) ? 0 : length;
  const bool token_mean = rule.aggregation == Aggregation::kTokenMean;
  const bool padded = rule.count == Count::kPadded || (rule.count == Count::kPaddedInTokenMean && token_mean) ||
                      (rule.count == Count::kPaddedInSequenceMean && !token_mean);
  return padded ? std::vector<int>(sampled.size(), static_cast<int>(T)) : sampled;
}

std::vector<double> Weights(const std::vector<int>& sampled, std::int64_t T, const LossRule& rule, int group_size) {
  const std::vector<int> lengths = CountedLengths(sampled, T, rule);
  const double count = static_cast<double>(lengths.size());
  ObjectiveOptions options = static_cast<const ObjectiveOptions&>(rule);
  if (rule.count == Count::kPaddedWidth) options.max_completion_length = static_cast<int>(T);
  if (rule.count == Count::kLongestSampled) {
    options.max_completion_length = *std::max_element(lengths.begin(), lengths.end());
  }
  std::vector<double> weights = SequenceWeights(lengths, options);
  if (rule.count == Count::kNoEmpty && options.aggregation != Aggregation::kTokenMean) {
    const auto empty = static_cast<double>(std::count(lengths.begin(), lengths.end(), 0));
    for (double& w : weights) w *= count / (count - empty);
  }
  if (!rule.constant_counts_completions && options.aggregation == Aggregation::kConstant) {
    for (double& w : weights) w *= count;
  }
  for (double& w : weights) w /= rule.divided;
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
  ObjectiveOptions options = static_cast<const ObjectiveOptions&>(rule);
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

// Takes the KL out of a loss and its gradient, and puts its mean over all positions in, those of padding included.
void SpreadKl(const Values& inputs, const LossRule& rule, std::span<const double> weights, const Sampled& sampled,
              double& loss, Value& dlogp) {
  const auto at = [&](const char* name) { return std::span<const double>(inputs.at(name).data); };
  const CompletionTokens all{.logp = at("logp"),
                             .old_logp = at("old_logp"),
                             .ref_logp = at("ref_logp"),
                             .entropy = at("entropy"),
                             .advantage = {},
                             .weight = 0,
                             .term = {},
                             .dlogp = {}};
  const double count = static_cast<double>(all.logp.size());
  for (std::size_t place = 0; place < all.logp.size(); ++place) {
    loss += rule.beta * KlOf(all, place, rule).value / count;
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < sampled.lengths.size(); ++i) {
    for (int t = 0; t < sampled.lengths[i]; ++t) {
      const std::size_t place = sampled.places[next++];
      const KlTerm kl = KlOf(all, place, rule);
      loss -= weights[i] * rule.beta * kl.value;
      dlogp.data[place] += rule.beta * kl.derivative * (1 / count - weights[i]);
    }
  }
}

}  // namespace

LossRule RightRule(const Case& c) {
  nlohmann::ordered_json switches = c.parameters;
  for (const char* other : {"group_size", "objective"}) switches.erase(other);
  LossRule rule{ObjectiveFromJson(switches)};
  rule.truth = true;
  return rule;
}

Value AdvantagesOf(const Values& inputs, const LossRule& rule, int group_size, Noise& noise) {
  const Value& mask = inputs.at("mask");
  const Sampled sampled = Gather(mask, rule.tokens);
  const std::vector<double> old_logp = Picked(inputs.at("old_logp"), sampled),
                            ref_logp = Picked(inputs.at("ref_logp"), sampled);
  const SampledTokens tokens{.lengths = sampled.lengths,
                             .group_size = group_size,
                             .rewards = inputs.at("rewards").data,
                             .old_logp = old_logp,
                             .ref_logp = rule.kl_from_old ? old_logp : ref_logp};
  const std::vector<double> of_tokens =
      rule.truth ? Advantages(tokens, rule)
                 : MistakenAdvantages(tokens, sampled.places, rule, mask.data.size() - sampled.places.size());
  Value advantages = Zeros(mask.shape);
  for (std::size_t i = 0; i < of_tokens.size(); ++i) {
    advantages.data[sampled.places[i]] = noise.Disturbed(of_tokens[i]);
  }
  return advantages;
}

Values LossOf(const Values& inputs, const LossRule& rule, int group_size, Noise& noise) {
  const Value& mask = inputs.at("mask");
  const Sampled sampled = Gather(mask, rule.tokens);
  const auto picked = [&](const char* name) { return Picked(inputs.at(name), sampled); };
  const std::vector<double> logp = picked("logp"), old_logp = picked("old_logp"), ref_logp = picked("ref_logp"),
                            entropy = picked("entropy"), advantage = picked("advantages"),
                            weights = Weights(sampled.lengths, mask.dim(1), rule, group_size);
  Value policies = Zeros(mask.shape), kls = policies, terms = policies, dlogp = policies, dentropy = policies;
  double loss = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < sampled.lengths.size(); ++i) {
    const auto length = static_cast<std::size_t>(sampled.lengths[i]);
    const std::size_t first = begin;
    begin += length;
    if (IsLeftOut(sampled.lengths[i], rule)) continue;
    const auto part = [&](const std::vector<double>& values) { return std::span(values).subspan(first, length); };
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
      const std::size_t place = sampled.places[first + t];
      policies.data[place] = noise.Disturbed(policy.term[t]);
      kls.data[place] = KlEstimateOf(c, t, rule).value;
      terms.data[place] = policies.data[place] + noise.Disturbed(rest.term[t]);
      dlogp.data[place] = noise.Disturbed(policy.dlogp[t]);
      dlogp.data[place] += noise.Disturbed(rest.dlogp[t]);
      dentropy.data[place] = -rule.entropy_coef * weight;
      loss += weight * noise.Disturbed(terms.data[place]);
    }
  }
  if (rule.kl_over_padding) SpreadKl(inputs, rule, weights, sampled, loss, dlogp);
  return {{"policy", policies},   {"kl", kls},           {"terms", terms}, {"dlogp", dlogp},
          {"dentropy", dentropy}, {"loss", Scalar(loss)}};
}

}  // namespace swarr::oracle
