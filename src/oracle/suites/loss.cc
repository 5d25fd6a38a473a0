// SPDX-License-Identifier: Apache-2.0
// Every objective of rl/objective.h: the suite `loss`, from log-probabilities and rewards to the loss and its gradient,
// and its two halves as suites of their own. `advantages` ends with the advantages, in `policy` they are given.
#include <algorithm>

#include "oracle/suites/loss_cases.h"
#include "oracle/suites/loss_rule.h"

namespace swarr::oracle {
namespace loss_suite {

// Mistakes that can be made where advantages are made, those of what follows, and those of either.
constexpr Mistake<LossRule> kInEither[] = {
    {"the last sampled token (the end of text) masked out", [](LossRule& r) { r.tokens = Tokens::kNoLast; }},
    {"the first sampled token masked out", [](LossRule& r) { r.tokens = Tokens::kNoFirst; }},
    {"masked tokens taken for sampled ones", [](LossRule& r) { r.tokens = Tokens::kAll; }},
    {"the KL estimator k1", [](LossRule& r) { r.kl = KlEstimator::kK1; }},
    {"the KL estimator k2", [](LossRule& r) { r.kl = KlEstimator::kK2; }},
    {"the KL estimator k3", [](LossRule& r) { r.kl = KlEstimator::kK3; }},
    {"the KL missing", [](LossRule& r) { r.beta = 0; }},
    {"k3 with the sign of d turned: exp(d) - d - 1", [](LossRule& r) { r.k3_turned = true; }},
    {"k3 cut at 10", [](LossRule& r) { r.k3_cut = true; }},
};

constexpr Mistake<LossRule> kInAdvantages[] = {
    {"the standard deviation without Bessel's correction", [](LossRule& r) { r.bessel = false; }},
    {"1e-6 in place of 1e-4 beside the standard deviation", [](LossRule& r) { r.scale_epsilon = 1e-6; }},
    {"1e-4 added to the variance, inside the root", [](LossRule& r) { r.epsilon_in_root = true; }},
    {"rewards divided by the standard deviation before the baseline is subtracted",
     [](LossRule& r) { r.baseline_undivided = true; }},
    {"advantages not divided by the standard deviation", [](LossRule& r) { r.scale_rewards = RewardScale::kNone; }},
    {"advantages divided by the standard deviation of the group",
     [](LossRule& r) { r.scale_rewards = RewardScale::kGroup; }},
    {"advantages divided by the standard deviation of the batch",
     [](LossRule& r) { r.scale_rewards = RewardScale::kBatch; }},
    {"no baseline", [](LossRule& r) { r.baseline = Baseline::kNone; }},
    {"the mean of the whole group as baseline", [](LossRule& r) { r.baseline = Baseline::kGroupMean; }},
    {"the mean of the others of the group as baseline", [](LossRule& r) { r.baseline = Baseline::kLeaveOneOut; }},
    {"the sum of the others over G, not G - 1, as baseline", [](LossRule& r) { r.others_divided_by_group = true; }},
    {"completions without tokens left out of their group", [](LossRule& r) { r.empty_in_group = false; }},
    {"the whole batch as one group", [](LossRule& r) { r.groups = Groups::kOne; }},
    {"groups interleaved: completion i in group i mod (B / G)", [](LossRule& r) { r.groups = Groups::kInterleaved; }},
    {"advantages with the sign turned (the loss maximised)", [](LossRule& r) { r.sign = -1; }},
    {"the overlong penalty missing", [](LossRule& r) { r.overlong_share = 0; }},
    {"advantages not whitened", [](LossRule& r) { r.whiten = false; }},
    {"advantages whitened over all tokens", [](LossRule& r) { r.whiten = true; }},
    {"advantages whitened without Bessel's correction", [](LossRule& r) { r.whiten_bessel = false; }},
    {"advantages whitened in each group", [](LossRule& r) { r.whitened = Whitened::kByGroup; }},
    {"advantages whitened over masked tokens too", [](LossRule& r) { r.whitened = Whitened::kWithPadding; }},
    {"the KL turned round everywhere: log p_ref - log p", [](LossRule& r) { r.kl_turned = true; }},
    {"the KL summed off the reward", [](LossRule& r) { r.kl_in = KlPlace::kReward; }},
    {"the KL to go off each token's advantage", [](LossRule& r) { r.kl_in = KlPlace::kReturn; }},
    {"the KL to go without the token's own", [](LossRule& r) { r.own_kl_to_go = false; }},
    {"the KL to go cut at masked tokens", [](LossRule& r) { r.to_go_cut = true; }},
    {"the KL off each token's advantage, without what is to come", [](LossRule& r) { r.kl_in = KlPlace::kAdvantage; }},
};

constexpr Mistake<LossRule> kInPolicy[] = {
    {"the mean over all tokens as normaliser (token-mean)",
     [](LossRule& r) { r.aggregation = Aggregation::kTokenMean; }},
    {"the mean over each completion, then over completions, as normaliser (sequence-mean)",
     [](LossRule& r) { r.aggregation = Aggregation::kSequenceMean; }},
    {"the longest completion allowed as normaliser (constant)",
     [](LossRule& r) { r.aggregation = Aggregation::kConstant; }},
    {"the number of completions as normaliser (sequence-sum)",
     [](LossRule& r) { r.aggregation = Aggregation::kSequenceSum; }},
    {"masked tokens counted in the normaliser", [](LossRule& r) { r.count = Count::kPadded; }},
    {"masked tokens counted in the normaliser of token-mean: the padded B T tokens",
     [](LossRule& r) { r.count = Count::kPaddedInTokenMean; }},
    {"masked tokens counted in the normaliser of sequence-mean: the padded length",
     [](LossRule& r) { r.count = Count::kPaddedInSequenceMean; }},
    {"completions without tokens left out of the count", [](LossRule& r) { r.count = Count::kNoEmpty; }},
    {"each group normalised by its own tokens (a mean over micro-batches)",
     [](LossRule& r) { r.count = Count::kByGroup; }},
    {"the longest completion allowed as normaliser, without the number of completions",
     [](LossRule& r) { r.constant_counts_completions = false; }},
    {"loss and gradients divided once more, by 2 steps of accumulation", [](LossRule& r) { r.divided = 2; }},
    {"loss and gradients divided once more, by 4 steps of accumulation", [](LossRule& r) { r.divided = 4; }},
    {"loss and gradients divided once more, by 8 steps of accumulation", [](LossRule& r) { r.divided = 8; }},
    {"the longest completion of the batch in place of max_completion_length",
     [](LossRule& r) { r.count = Count::kLongestSampled; }},
    {"the padded width of the batch in place of max_completion_length",
     [](LossRule& r) { r.count = Count::kPaddedWidth; }},
    {"completions of max_completion_length tokens left out of the loss (overlong filtering)",
     [](LossRule& r) { r.longest = Longest::kLeftOut; }},
    {"completions of max_completion_length tokens left out of the loss, yet counted in the normaliser",
     [](LossRule& r) { r.longest = Longest::kCountedAlone; }},
    {"the policy's term with the sign turned: A in place of -A", [](LossRule& r) { r.negated = true; }},
    {"no importance ratio (REINFORCE's term)", [](LossRule& r) { r.SetRatio(RatioKind::kNone); }},
    {"the ratio of each token", [](LossRule& r) { r.SetRatio(RatioKind::kToken); }},
    {"the product of the tokens' ratios", [](LossRule& r) { r.SetRatio(RatioKind::kSequence); }},
    {"the geometric mean of the tokens' ratios", [](LossRule& r) { r.SetRatio(RatioKind::kSequenceMean); }},
    {"a sequence's ratio by adding up: the sum, or the mean, of its tokens' ratios",
     [](LossRule& r) { r.ratios_added = true; }},
    {"the ratio inverted: old over new", [](LossRule& r) { r.inverse_ratio = true; }},
    {"the ratio always 1: logp.detach() in place of old_logp", [](LossRule& r) { r.ratio_is_one = true; }},
    {"the logarithm of a sequence's ratio cut at 10", [](LossRule& r) { r.sequence_cut = true; }},
    {"the gradient of a sequence's mean ratio taken token by token (GSPO-token)",
     [](LossRule& r) { r.sequence_by_token = true; }},
    {"the gradient without the ratio's factor", [](LossRule& r) { r.ratio_in_gradient = false; }},
    {"no clip", [](LossRule& r) { r.SetClip(ClipKind::kNone); }},
    {"epsilon used for the upper clip, epsilon_high ignored", [](LossRule& r) { r.epsilon_high = r.epsilon; }},
    {"no lower clip", [](LossRule& r) { r.epsilon = 1; }},
    {"the clipped ratio always taken, without the minimum", [](LossRule& r) { r.choice = Choice::kClipped; }},
    {"the maximum of both products in place of the minimum", [](LossRule& r) { r.choice = Choice::kMaximum; }},
    {"the dual clip: at most 3 |A| where A < 0", [](LossRule& r) { r.dual_clip = true; }},
    {"CISPO's weight clamped from below too, at 1 - epsilon", [](LossRule& r) { r.weight_clipped_below = true; }},
    {"the gradient taken through CISPO's weight", [](LossRule& r) { r.gradient_through_weight = true; }},
    {"epsilon_high taken for the cap itself, not 1 + epsilon_high",
     [](LossRule& r) {
       if (r.clip == ClipKind::kWeight) r.epsilon_high -= 1;
     }},
    {"the KL in the loss turned round: log p_ref - log p", [](LossRule& r) { r.kl_turned_in_loss = true; }},
    {"the KL from the old policy in place of the reference", [](LossRule& r) { r.kl_from_old = true; }},
    {"the KL in the loss without a gradient", [](LossRule& r) { r.kl_gradient = false; }},
    {"the KL in the loss with KL dlog p in its gradient too, as of a reward", [](LossRule& r) { r.kl_score = true; }},
    {"the KL in the loss", [](LossRule& r) { r.kl_in = KlPlace::kLoss; }},
    {"the KL in the loss times the ratio", [](LossRule& r) { r.kl_times_ratio = true; }},
    {"the KL in the loss averaged over masked tokens too", [](LossRule& r) { r.kl_over_padding = true; }},
    {"the entropy bonus missing", [](LossRule& r) { r.entropy_coef = 0; }},
    {"the entropy bonus with the sign turned", [](LossRule& r) { r.entropy_coef *= -1; }},
};

LossRule RuleOf(const Case& c, const std::string& mistake) {
  LossRule rule = WithMistake(RightRule(c), kInEither, mistake);
  rule = WithMistake(WithMistake(rule, kInAdvantages, mistake), kInPolicy, mistake);
  rule.truth = mistake.empty();
  return rule;
}

// Rewards and a group's mean are exact in every dtype, as the cases have them; a group without spread, disturbed, would
// be one with a spread of u.
Value MakeAdvantages(const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  Values exact_rewards = inputs;
  exact_rewards["rewards"] = c.inputs.at("rewards");
  return AdvantagesOf(exact_rewards, RuleOf(c, mistake), c.Integer("group_size"), noise);
}

Values EvaluateAdvantages(const Context&, const Case& c, const Values& inputs, const std::string& mistake,
                          Noise& noise) {
  return {{"advantages", MakeAdvantages(c, inputs, mistake, noise)}};
}

Values EvaluatePolicy(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  Values outputs = LossOf(inputs, RuleOf(c, mistake), c.Integer("group_size"), noise);
  outputs.erase("terms");
  if (c.Number("beta") == 0 || c.parameters.at("kl_in") != "loss") outputs.erase("kl");
  return outputs;
}

Values EvaluateWhole(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  Values given = inputs;
  given["advantages"] = MakeAdvantages(c, inputs, mistake, noise);
  Values outputs = LossOf(given, RuleOf(c, mistake), c.Integer("group_size"), noise);
  for (const char* of_policy : {"policy", "kl"}) outputs.erase(of_policy);
  outputs["advantages"] = given.at("advantages");
  return outputs;
}

// --- what is said of formulas and tensors, once for the whole and its parts ---

const char* const kCompletions =
    "Completions stand group after group, group_size each. T_i, the tokens of completion i, are those with mask 1; a "
    "masked token is as if it were not there. A completion without tokens counts among the B completions.";
const char* const kAdvantages =
    "Standard deviations have Bessel's correction, and 1e-4 is added to them. If there is a baseline, a group whose "
    "rewards, the overlong penalty and the KL (kl_in = reward) taken off, are all equal gets exactly 0; the KL to go "
    "(kl_in = return) or each token's own (advantage) and then whitening come after that, and move it. reward_weight "
    "multiplies the rewards before anything else.";
const char* const kClips =
    "clip = ppo: -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A). clip = weight: -min(rho, 1 + epsilon_high) A "
    "log p, with no gradient through the factor.";

const TensorInfo kLogp = {"logp", "[B, T]", "log-probabilities of the tokens under the policy"},
                 kOldLogp = {"old_logp", "[B, T]",
                             "log-probabilities of the tokens under the policy that sampled them"},
                 kRefLogp = {"ref_logp", "[B, T]", "log-probabilities of the tokens under the reference model"},
                 kEntropy = {"entropy", "[B, T]", "entropy of the policy's distribution at the token"},
                 kMask = {"mask", "[B, T]", "1 for a sampled token that counts, 0 for padding and what others wrote"},
                 kRewards = {"rewards", "[B]", "of the completions"},
                 kAdvantage = {"advantages", "[B, T]", "A of each token; 0 where mask is 0"},
                 kLoss = {"loss", "[1]", "the loss"}, kDLogp = {"dlogp", "[B, T]", "gradient of logp", true},
                 kDEntropy = {"dentropy", "[B, T]", "gradient of entropy", true};

const std::vector<std::string> kPolicyForward = {"logp - old_logp", "ratio", "clipped ratio", "ratio times advantage",
                                                 "logp - ref_logp", "KL",    "beta KL",       "sum of the terms",
                                                 "weight"},
                               kPolicyBackward = {"gradient of the ratio", "gradient of the KL", "their sum"};

}  // namespace loss_suite

Suite LossSuite() {
  using namespace loss_suite;
  Family f{
      .name = "loss",
      .semantics =
          {"loss = sum over i, t with mask[i, t] = 1 of w_i term[i, t]; docs/objectives.md has the formula of every "
           "switch.",
           kCompletions,
           "term = policy + beta KL (kl_in = loss) - entropy_coef entropy; its weight w_i is that of the normalizer.",
           kAdvantages, kClips,
           "old_logp, ref_logp, rewards and advantages are constants of the gradient; entropy is a variable of its "
           "own."},
      .inputs = {kLogp, kOldLogp, kRefLogp, kEntropy, kMask, kRewards},
      .outputs = {kAdvantage,
                  {"terms", "[B, T]", "each token's term before its weight; 0 where mask is 0"},
                  kLoss,
                  kDLogp,
                  kDEntropy},
      .roundings = {Joined<std::string>({"difference from the mean", "deviation", "advantage"}, kPolicyForward),
                    kPolicyBackward},
      .mistakes = NamesOf(kInEither, kInAdvantages, kInPolicy),
      .cases = LossCases(),
      .evaluate = EvaluateWhole};
  return {"loss",
          "Policy-gradient objectives: advantages, terms, loss and gradient from log-probabilities and rewards.",
          {std::move(f)}};
}

Suite AdvantagesSuite() {
  using namespace loss_suite;
  Family f{.name = "advantages",
           .semantics = {"docs/objectives.md has the formula of every switch.", kCompletions, kAdvantages,
                         "kl_in = loss: there is no KL in the advantages, whatever beta is."},
           .inputs = {kOldLogp, kRefLogp, kMask, kRewards},
           .outputs = {kAdvantage},
           .roundings = {{"reward less penalties", "difference from the mean", "deviation", "advantage",
                          "old_logp - ref_logp", "KL", "beta KL"},
                         {}},
           .mistakes = NamesOf(kInEither, kInAdvantages),
           .cases = AdvantageCases(),
           .evaluate = EvaluateAdvantages};
  return {"advantages", "The first half of the suite loss: advantages from rewards.", {std::move(f)}};
}

Suite PolicySuite() {
  using namespace loss_suite;
  Family f{.name = "policy",
           .semantics = {"loss = sum over i, t with mask[i, t] = 1 of w_i (policy + beta kl - entropy_coef entropy), "
                         "without the KL where kl_in is not loss; the weight w_i is that of the normalizer. "
                         "docs/objectives.md has the formula of every switch.",
                         kCompletions, kClips,
                         "Advantages are given for each token. They and old_logp and ref_logp are constants of the "
                         "gradient; entropy is a variable of its own."},
           .inputs = {kLogp, kOldLogp, kRefLogp, kEntropy, kMask, kAdvantage},
           .outputs = {{"policy", "[B, T]", "each token's policy term; 0 where mask is 0"},
                       {"kl", "[B, T]", "each token's KL, where the loss has one; 0 where mask is 0"},
                       kLoss,
                       kDLogp,
                       kDEntropy},
           .roundings = {kPolicyForward, kPolicyBackward},
           .mistakes = NamesOf(kInEither, kInPolicy),
           .cases = PolicyCases(),
           .evaluate = EvaluatePolicy};
  return {"policy",
          "The second half of the suite loss: policy terms, KL, loss and gradient from given advantages.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
