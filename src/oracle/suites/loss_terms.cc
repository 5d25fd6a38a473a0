// SPDX-License-Identifier: Apache-2.0
// The terms of a completion's tokens and their derivatives, as people mistake them.
#include <algorithm>
#include <cmath>

#include "oracle/suites/loss_rule.h"

namespace swarr::oracle {
namespace {

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
  double d = 0;
  for (std::size_t u = 0; u < c.logp.size(); ++u) d += LogRatioOf(c, u, rule);
  if (rule.ratio == RatioKind::kSequenceMean) d /= static_cast<double>(c.logp.size());
  if (rule.sequence_cut && d > 10) return {std::exp(10), 0};
  return {std::exp(d), sign * std::exp(d)};
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

}  // namespace

KlTerm MistakenKl(double d, const LossRule& rule) {
  const bool k3 = rule.kl == KlEstimator::kK3;
  const double sign = rule.kl_turned || (k3 && rule.k3_turned) ? -1 : 1;
  const KlTerm kl = EvaluateKl(sign * d, rule.kl);
  if (k3 && rule.k3_cut && kl.value > 10) return {10, 0};
  return {kl.value, sign * kl.derivative};
}

void MistakenPolicy(const CompletionTokens& c, const LossRule& rule) {
  const RatioKind kind = rule.ratio;
  const bool mean = kind == RatioKind::kSequenceMean;
  const bool shared = kind == RatioKind::kSequence || (mean && !rule.sequence_by_token);
  double by_shared_ratio = 0;
  for (std::size_t t = 0; t < c.logp.size(); ++t) {
    const Term term = PolicyTerm(c, t, rule);
    c.term[t] = term.value;
    c.dlogp[t] = c.weight * (term.by_logp + (shared ? 0 : term.by_log_ratio));
    by_shared_ratio += term.by_log_ratio;
  }
  const double share = mean ? 1.0 / static_cast<double>(c.logp.size()) : 1.0;
  for (double& d : c.dlogp) d += shared ? c.weight * share * by_shared_ratio : 0;
}

void MistakenRest(const CompletionTokens& c, const LossRule& rule) {
  const bool has_kl = rule.beta != 0 && rule.kl_in == KlPlace::kLoss;
  const double sign = rule.kl_turned_in_loss ? -1 : 1;
  for (std::size_t t = 0; t < c.logp.size(); ++t) {
    const double d = c.logp[t] - (rule.kl_from_old ? c.old_logp[t] : c.ref_logp[t]);
    const KlTerm kl = has_kl ? MistakenKl(sign * d, rule) : KlTerm{0, 0};
    c.term[t] = rule.beta * kl.value - rule.entropy_coef * c.entropy[t];
    c.dlogp[t] = rule.kl_gradient ? c.weight * rule.beta * sign * kl.derivative : 0;
  }
}

}  // namespace swarr::oracle
