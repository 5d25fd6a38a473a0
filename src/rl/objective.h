// SPDX-License-Identifier: Apache-2.0
// Policy-gradient objectives as functions of log-probabilities: shaping of rewards, advantages, ratio, clip, KL,
// entropy and aggregation. The gradient enters the model as dL/dlog p (and, with an entropy bonus, dL/dH) of each
// sampled token through the op token_logprob, so this file is all there is to an objective. An objective with a name is
// a choice among the switches below. Formulas, sources, and who uses which: docs/objectives.md.
//
// To add an objective, add it to NamedObjectives() in objective.cc. If no switch can express it, add a value and its
// name to an enum here. The switches in objective.cc whose formulas need the value then fail to compile.
//
//   L = sum_i w_i sum_t ( policy_it + beta KL_it - entropy_coef H_it )   over the sampled tokens t of completion i
//
// Everything is f64. Tokens that must not count (a tool's output, padding) are not handed in: the sampler records only
// what counts.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/names.h"

namespace swarr {

// What is subtracted from a completion's reward r_i: nothing; the mean of its group; or the mean of the others of its
// group (RLOO, arXiv 2402.14740).
enum class Baseline : std::uint8_t { kNone, kGroupMean, kLeaveOneOut };
template <>
inline constexpr std::array kNames<Baseline> = {"none", "group-mean", "leave-one-out"};

// What the difference is divided by: nothing; or s + 1e-4, s the standard deviation with Bessel's correction of the
// rewards of the group (GRPO, arXiv 2402.03300), or of all rewards of the step.
enum class RewardScale : std::uint8_t { kNone, kGroup, kBatch };
template <>
inline constexpr std::array kNames<RewardScale> = {"none", "group", "batch"};

// rho_it, with d_t = log p_it - log p_old_it:
//   kNone          no ratio: the policy's term is -A log p (REINFORCE, Williams 1992)
//   kToken         exp(d_t)
//   kSequence      exp(sum_t d_t), the same for all tokens of i (RLOO)
//   kSequenceMean  exp(mean_t d_t), likewise (GSPO, arXiv 2507.18071)
enum class RatioKind : std::uint8_t { kNone, kToken, kSequence, kSequenceMean };
template <>
inline constexpr std::array kNames<RatioKind> = {"none", "token", "sequence", "sequence-mean"};

// The policy's term of a token:
//   kNone     -rho A
//   kPpo      -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A)
//   kWeight   -min(rho, 1 + epsilon_high) A log p, the factor before log p a constant (CISPO, arXiv 2506.13585)
enum class ClipKind : std::uint8_t { kNone, kPpo, kWeight };
template <>
inline constexpr std::array kNames<ClipKind> = {"none", "ppo", "weight"};

// w_i, with B completions of T_i sampled tokens: 1 / sum_j T_j; 1 / (B T_i); 1 / (B max_completion_length) (Dr. GRPO,
// arXiv 2503.20783); or 1 / B. A completion without tokens has no term, and weight 0 where it would divide by 0; it
// counts in B.
enum class Aggregation : std::uint8_t { kTokenMean, kSequenceMean, kConstant, kSequenceSum };
template <>
inline constexpr std::array kNames<Aggregation> = {"token-mean", "sequence-mean", "constant", "sequence-sum"};

// The estimate of D(pi, pi_ref) at a sampled token, with d = log p - log p_ref: d; d^2 / 2; exp(-d) + d - 1.
enum class KlEstimator : std::uint8_t { kK1, kK2, kK3 };
template <>
inline constexpr std::array kNames<KlEstimator> = {"k1", "k2", "k3"};

// Where beta times the estimate goes: into the loss, token by token; off the reward, summed over the completion; off
// the reward-to-go, the token's own estimate and all later ones (REINFORCE++); or off the token's advantage, its own
// estimate alone (on-policy distillation). The last three estimate the KL of the policy that sampled, which is a
// constant.
enum class KlPlace : std::uint8_t { kLoss, kReward, kReturn, kAdvantage };
template <>
inline constexpr std::array kNames<KlPlace> = {"loss", "reward", "return", "advantage"};

struct ObjectiveOptions {
  double reward_weight = 1;  // of the task's reward; 0: the reference model alone says what is good
  Baseline baseline = Baseline::kGroupMean;
  RewardScale scale_rewards = RewardScale::kNone;
  bool whiten = false;  // advantages are whitened over all sampled tokens of the step
  RatioKind ratio = RatioKind::kToken;
  ClipKind clip = ClipKind::kPpo;
  double epsilon = 0.2, epsilon_high = 0.2;
  Aggregation aggregation = Aggregation::kTokenMean;
  int max_completion_length = 0;  // tokens; used by kConstant and overlong_share
  KlEstimator kl = KlEstimator::kK3;
  KlPlace kl_in = KlPlace::kLoss;
  double beta = 0;                // of the KL; 0: there is no reference model
  double entropy_coef = 0;        // of the entropy bonus
  bool dynamic_sampling = false;  // groups without spread are sampled anew (DAPO, arXiv 2503.14476; rl/rl.h)
  double overlong_share = 0;      // the reward falls by 1 over this last share of max_completion_length (DAPO)
};

struct NamedObjective {
  std::string name;
  ObjectiveOptions options;
};
// The objectives that have a name. The KL's place and estimator are those of the paper or of its authors' code, for
// whoever sets beta.
const std::vector<NamedObjective>& NamedObjectives();

// Throws UsageError, naming the switches, where two of them contradict each other or a number is out of its range.
void CheckObjective(const ObjectiveOptions& options);

// What a step has sampled: completion after completion, group after group, group_size each. Log-probabilities are per
// token, those of all completions one after another.
struct SampledTokens {
  std::span<const int> lengths;  // sampled tokens of each completion, 0 or more
  int group_size;
  std::span<const double> rewards;   // of each completion
  std::span<const double> old_logp;  // of the policy that sampled
  std::span<const double> ref_logp;  // of the reference model; may be empty where beta is 0
};

// The penalty of DAPO's "soft overlong punishment": with c = overlong_share * max_completion_length, 0 up to
// max_completion_length - c tokens, from there falling linearly to -1 at max_completion_length.
double OverlongPenalty(int length, const ObjectiveOptions& options);

// Whether two of the values differ. A group whose rewards are all equal has nothing to tell its completions apart by.
bool HasSpread(std::span<const double> values);

// A_it for every sampled token, where r_i is reward_weight times the reward, plus the overlong penalty and, with
// kReward, minus beta times the KL of all its tokens:
//   A_i = (r_i - baseline) / scale; exactly 0 where there is a baseline and the r_i of a group are all equal
//   kReturn: A_it = A_i - beta sum_{t' >= t} KL_it';  kAdvantage: A_it = A_i - beta KL_it;  otherwise A_it = A_i
//   whiten:  A_it = (A_it - mean) / sqrt(variance + 1e-8), over all tokens, Bessel's correction (REINFORCE++,
//            arXiv 2501.03262)
std::vector<double> Advantages(const SampledTokens& sampled, const ObjectiveOptions& options);

// w_i for completions of these lengths (tokens).
std::vector<double> SequenceWeights(std::span<const int> lengths, const ObjectiveOptions& options);

// The sampled tokens of one completion, and where the results go.
struct CompletionTokens {
  std::span<const double> logp, old_logp;
  std::span<const double> ref_logp;  // may be empty where the loss holds no KL
  std::span<const double> entropy;   // H of the distribution that the token was drawn from; empty without a bonus
  std::span<const double> advantage;
  double weight;            // w_i
  std::span<double> term;   // out: policy + beta KL - entropy_coef H, before the weight
  std::span<double> dlogp;  // out: dL/dlog p; dL/dH is -entropy_coef w_i for every token
};

struct CompletionLoss {
  double loss = 0;           // w_i times the sum of the terms
  double kl = 0;             // sum of the estimates in the loss, before beta
  std::int64_t clipped = 0;  // tokens whose ratio the clip has replaced
};
CompletionLoss EvaluateCompletion(const CompletionTokens& c, const ObjectiveOptions& options);

// The estimate for d = log p - log p_ref, and its derivative with respect to log p.
struct KlTerm {
  double value, derivative;
};
KlTerm EvaluateKl(double d, KlEstimator estimator);

}  // namespace swarr
