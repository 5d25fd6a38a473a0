// SPDX-License-Identifier: Apache-2.0
// Policy-gradient objectives as functions of log-probabilities: the one home of advantages, aggregation, ratio and
// clip. The gradient enters the model as dL/dlog p of each token through the op token_logprob, so this file is all
// there is to an objective. Formulas and who uses which: docs/derivations.md.
//
//   L = sum_i w_i sum_t term(log p_it, log p_old_it, A_i)       over the sampled tokens t of completion i
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace swarr {

// kReinforce: term = -A log p (Williams 1992).
// kGrpo: term = -min(rho A, clip(rho, 1 - eps, 1 + eps) A) with rho = exp(log p - log p_old) (arXiv 2402.03300). With
// one update per rollout rho is exactly 1 here, and the gradient is REINFORCE's.
enum class PolicyTermKind : std::uint8_t { kReinforce, kGrpo };

// What sum over tokens and completions is normalised by: all sampled tokens of the step; each completion by its own
// length, then the number of completions (GRPO paper); or the constant max_completion_length times that number (Dr.
// GRPO).
enum class Aggregation : std::uint8_t { kTokenMean, kSequenceMean, kConstant };

PolicyTermKind ParsePolicyTerm(const std::string& name);  // "reinforce", "grpo"
Aggregation ParseAggregation(const std::string& name);    // "token-mean", "sequence-mean", "constant"

struct ObjectiveOptions {
  PolicyTermKind term = PolicyTermKind::kGrpo;
  bool scale_rewards = false;  // divide advantages by the group's standard deviation
  Aggregation aggregation = Aggregation::kTokenMean;
  double epsilon = 0.2;           // clip range of kGrpo
  int max_completion_length = 0;  // the constant of kConstant
};

// A_i = r_i - mean of its group; with scale_rewards also divided by (s + 1e-4), s the group's standard deviation with
// Bessel's correction (as TRL does). Rewards come group after group, group_size each. A group without spread gets
// exactly 0.
std::vector<double> Advantages(std::span<const double> rewards, int group_size, const ObjectiveOptions& options);

// w_i for completions of these lengths (tokens).
std::vector<double> SequenceWeights(std::span<const int> lengths, const ObjectiveOptions& options);

struct PolicyTerm {
  double value;
  double derivative;  // with respect to log p
  bool clipped;       // the clip made the derivative 0
};
PolicyTerm EvaluateTerm(double logp, double old_logp, double advantage, const ObjectiveOptions& options);

}  // namespace swarr
