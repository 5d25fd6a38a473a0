// SPDX-License-Identifier: Apache-2.0
// The suite `loss`: every objective of rl/objective.h, from log-probabilities and rewards to the loss and its gradient.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "oracle/suites/loss_rule.h"
#include "rl/objective_names.h"

namespace swarr::oracle {
namespace loss_suite {

using nlohmann::ordered_json;

constexpr Mistake<LossRule> kMistakes[] = {
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
    {"the last sampled token (the end of text) masked out", [](LossRule& r) { r.tokens = Tokens::kNoLast; }},
    {"the first sampled token masked out", [](LossRule& r) { r.tokens = Tokens::kNoFirst; }},
    {"masked tokens in the loss", [](LossRule& r) { r.tokens = Tokens::kAll; }},
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
    {"no importance ratio (REINFORCE's term)", [](LossRule& r) { r.SetRatio(RatioKind::kNone); }},
    {"the ratio of each token", [](LossRule& r) { r.SetRatio(RatioKind::kToken); }},
    {"the product of the tokens' ratios", [](LossRule& r) { r.SetRatio(RatioKind::kSequence); }},
    {"the geometric mean of the tokens' ratios", [](LossRule& r) { r.SetRatio(RatioKind::kSequenceMean); }},
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
    {"the KL estimator k1", [](LossRule& r) { r.kl = KlEstimator::kK1; }},
    {"the KL estimator k2", [](LossRule& r) { r.kl = KlEstimator::kK2; }},
    {"the KL estimator k3", [](LossRule& r) { r.kl = KlEstimator::kK3; }},
    {"the KL missing", [](LossRule& r) { r.beta = 0; }},
    {"the KL turned round everywhere: log p_ref - log p", [](LossRule& r) { r.kl_turned = true; }},
    {"the KL in the loss turned round: log p_ref - log p", [](LossRule& r) { r.kl_turned_in_loss = true; }},
    {"k3 with the sign of d turned: exp(d) - d - 1", [](LossRule& r) { r.k3_turned = true; }},
    {"k3 cut at 10", [](LossRule& r) { r.k3_cut = true; }},
    {"the KL from the old policy in place of the reference", [](LossRule& r) { r.kl_from_old = true; }},
    {"the KL in the loss without a gradient", [](LossRule& r) { r.kl_gradient = false; }},
    {"the KL in the loss", [](LossRule& r) { r.kl_in = KlPlace::kLoss; }},
    {"the KL summed off the reward", [](LossRule& r) { r.kl_in = KlPlace::kReward; }},
    {"the KL to go off each token's advantage", [](LossRule& r) { r.kl_in = KlPlace::kReturn; }},
    {"the KL to go without the token's own", [](LossRule& r) { r.own_kl_to_go = false; }},
    {"the KL in the loss times the ratio", [](LossRule& r) { r.kl_times_ratio = true; }},
    {"the KL in the loss averaged over masked tokens too", [](LossRule& r) { r.kl_over_padding = true; }},
    {"the KL to go cut at masked tokens", [](LossRule& r) { r.to_go_cut = true; }},
    {"the KL off each token's advantage, without what is to come", [](LossRule& r) { r.kl_in = KlPlace::kAdvantage; }},
    {"the entropy bonus missing", [](LossRule& r) { r.entropy_coef = 0; }},
    {"the entropy bonus with the sign turned", [](LossRule& r) { r.entropy_coef *= -1; }},
};

Values Evaluate(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  ordered_json switches = c.parameters;
  for (const char* other : {"group_size", "objective"}) switches.erase(other);
  LossRule rule = WithMistake(LossRule{ObjectiveFromJson(switches)}, kMistakes, mistake);
  rule.truth = mistake.empty();
  // Rewards and a group's mean are exact in every dtype, as the cases have them; a group without spread, disturbed,
  // would be one with a spread of u.
  Values exact_rewards = inputs;
  exact_rewards["rewards"] = c.inputs.at("rewards");
  return EvaluateLoss(exact_rewards, rule, c.Integer("group_size"), noise);
}

// --- the cases ---

// Ratios keep a distance from the edges of the clips, 0.8, 1.2, 1.28 and 5, that bf16's rounding can't bridge.
const std::vector<double> kNear = {-0.03125, 0, 0.03125}, kFar = {-1, -0.5, -0.0625, 0.0625, 0.5, 2};
const std::vector<double> kRefs = {-0.5, -0.375, -0.25, -0.125, 0, 0.125, 0.25, 0.375, 0.5};

// Small groups, ratios within the clips and a reference nearby, where nothing else is said.
struct Batch {
  const char* name;
  const char* meaning;
  struct Rest {
    int group_size = 2;
    // One word for each completion: x is a sampled token, . is padding or what somebody else wrote.
    const char* rows = "xxxx xx.. xxx. xxxx";
    std::vector<double> rewards = {1, 0, 0.5, 0};
    std::vector<double> gaps = kNear;      // log p - log p_old is one of these
    std::vector<double> ref_gaps = kRefs;  // and log p_ref - log p_old one of these
    double highest = -0.25;                // of log p_old
  } rest = {};
};

const Batch kBatches[] = {
    {"mixed",
     "two groups of four, ratios on both sides of both clips",
     {4,
      "xxxxxx.. xxx..... xxxxxxxx x....... xxxxx... xx...... xxxxxxx. xxxx....",
      {1, 0, 0, 0.5, 0, 1, 1, 0.25},
      kFar}},
    {"masked",
     "tokens of a tool within completions, an empty completion, a group without spread, an empty group",
     {3,
      "xx..xx.. ..xxxx.. xxxxxxxx x.x.x.x. xxxx.... ........ ........ ........ ........ xxx..... xxxxxx.. .xxxxx..",
      {1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1},
      kFar}},
    {"near", "three pairs, ratios within the clips", {2, "xxxx xx.. xxx. xxxx x... xxx.", {1, 0, 0.5, 0, 0.25, 1}}},
    {"on_policy", "every ratio is 1", {.group_size = 4, .gaps = {0}}},
    {"short", "two completions of two tokens: a variance over four values", {2, "xx xx", {1, 0}}},
    {"small_spread",
     "rewards that differ by some thousandths: the 1e-4 beside the deviation is seen",
     {.rewards = {0.001953125, 0, 0.0009765625, 0}}},
    {"low",
     "every ratio below the lower clip, none as long as the batch is wide",
     {.rows = "xxxx.. xx.... xxx... x.....", .gaps = {-2, -1.5, -1}}},
    {"far_reference",
     "tokens much likelier under the reference: k3 beyond 10, as clamped by some",
     {.ref_gaps = {0.5, 4.5, 4.75}, .highest = -5.25}},
    {"left_reference",
     "tokens much likelier than under the reference: the KL to go falls steeply from token to token",
     {.ref_gaps = {-5, -4.5, -4}}},
    {"gapped",
     "tokens of a tool within completions, tokens much likelier than under the reference",
     {.rows = "xx..xx x.xx.. xxx.x. .x..xx", .ref_gaps = {-5, -4.5, -4}}},
    {"drifted",
     "the logarithm of the mean ratio beyond 10, as cut by some; within what f16 holds",
     {.rows = "xxxxxxxx xxxxxx..", .rewards = {0.015625, 0}, .gaps = {10.875, 11}, .highest = -11.25}},
    {"drifted_product",
     "the logarithm of the product of the ratios beyond 10; within what f16 holds",
     {.rows = "xxxxxxxxxxxxxxxx xxxxxxxxxxxxxxx.", .rewards = {0.015625, 0}, .gaps = {0.6875}, .highest = -0.75}},
};

// `switches` are those of the objective, with "objective" among them.
Case MakeCase(const std::string& name, const char* batch_name, ordered_json switches) {
  const auto& [_, meaning, batch] = *std::ranges::find(kBatches, std::string_view(batch_name), &Batch::name);
  std::vector<std::string> rows;
  std::istringstream text(batch.rows);
  for (std::string row; text >> row;) rows.push_back(row);
  const std::int64_t N = std::ssize(rows), T = std::ssize(rows[0]);
  // DAPO's penalty reaches completions of T tokens; for the others nothing comes near the longest length, unless a case
  // says so.
  if (!switches.contains("max_completion_length")) {
    switches["max_completion_length"] = switches["objective"] == "dapo" ? T + 1 : 2 * T;
  }
  Case c{name, meaning, {{"objective", switches["objective"]}, {"group_size", batch.group_size}}, {}, N * T};
  c.parameters.update(ToJson(ObjectiveFromJson(switches)));

  PhiloxStream random = StreamOf("loss", name);
  Value mask = Zeros({N, T}), old_logp = RandomNormal(random, {N, T}, 0.5, 0);
  mask.integer = true;
  Value logp = old_logp, ref_logp = old_logp, entropy = RandomNormal(random, {N, T}, 0.25, 0);
  const auto pick = [&](const std::vector<double>& from) {
    return from[random.NextBelow(static_cast<std::uint32_t>(from.size()))];
  };
  const double grid = batch.highest < -8 ? 16 : 32;
  for (std::size_t i = 0; i < mask.data.size(); ++i) {
    mask.data[i] = rows[i / rows[0].size()][i % rows[0].size()] == 'x';
    // Exact in bf16: multiples of 1/32 below 8, or of 1/16 below 16.
    old_logp.data[i] = batch.highest - std::round(grid * std::abs(old_logp.data[i])) / grid;
    logp.data[i] = old_logp.data[i] + pick(batch.gaps);
    ref_logp.data[i] = old_logp.data[i] + pick(batch.ref_gaps);
    entropy.data[i] = 0.5 + std::round(32 * std::abs(entropy.data[i])) / 32;
  }
  c.inputs = {{"logp", logp},       {"old_logp", old_logp}, {"ref_logp", ref_logp},
              {"entropy", entropy}, {"mask", mask},         {"rewards", {{N}, batch.rewards, false}}};
  return c;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, const char* batch, const std::string& objective,
                       ordered_json switches = ordered_json::object()) {
    switches["objective"] = objective;
    cases.push_back(MakeCase(name, batch, std::move(switches)));
  };
  for (const auto& [name, switches] : NamedObjectives()) {
    add(name, "mixed", name);
    add(name + "_masked", "masked", name);
  }
  for (const std::string name : {"reinforce", "grpo", "dr_grpo", "dapo", "cispo"}) {
    add(name + "_on_policy", "on_policy", name);
  }
  for (const std::string place : {"loss", "reward", "return"}) {
    for (const std::string kl : {"k1", "k2", "k3"}) {
      add(kl + "_in_" + place, "masked", "dr_grpo", {{"kl", kl}, {"kl_in", place}, {"beta", 1}});
    }
  }
  for (const std::string name : {"rloo", "reinforce++", "reinforce++-baseline", "grpo"}) {
    add(name + "_kl", "near", name, {{"beta", 0.25}});
  }
  add("reinforce++_short", "short", "reinforce++");
  add("gspo_wide", "near", "gspo", {{"epsilon", 0.25}, {"epsilon_high", 0.25}});
  add("rloo_near", "near", "rloo");
  add("cispo_low_cap", "mixed", "cispo", {{"epsilon_high", 0.5}});
  add("grpo_entropy", "mixed", "grpo", {{"entropy_coef", 0.125}});
  add("dapo_all", "masked", "dapo", {{"entropy_coef", 0.125}, {"beta", 0.25}});
  add("batch_scale", "mixed", "grpo", {{"scale_rewards", "batch"}});
  add("small_spread", "small_spread", "grpo");
  add("unclipped", "mixed", "grpo", {{"clip", "none"}});
  add("cispo_low", "low", "cispo");
  add("dr_grpo_low", "low", "dr_grpo");
  for (const std::string place : {"loss", "reward", "return"}) {
    add("k3_large_in_" + place, "far_reference", "dr_grpo", {{"kl_in", place}, {"beta", 0.25}});
  }
  add("gspo_drifted", "drifted", "gspo", {{"scale_rewards", "none"}});
  add("rloo_drifted", "drifted_product", "rloo");
  for (const char* batch : {"left_reference", "mixed"}) {
    add(std::string("gspo_return_") + batch, batch, "gspo",
        {{"epsilon", 0.25}, {"epsilon_high", 0.25}, {"kl", "k1"}, {"kl_in", "return"}, {"beta", 1}});
  }
  add("return_over_gaps", "gapped", "dr_grpo", {{"kl", "k1"}, {"kl_in", "return"}, {"beta", 1}});
  add("sequence_sum", "masked", "grpo", {{"normalizer", "sequence-sum"}});
  add("dapo_longest", "mixed", "dapo", {{"max_completion_length", 8}});
  add("dr_grpo_longest", "mixed", "dr_grpo", {{"max_completion_length", 8}});
  add("kl_beside_ratios", "mixed", "grpo", {{"beta", 0.25}});
  add("kl_beside_sequence_ratios", "mixed", "gspo", {{"beta", 0.25}, {"kl", "k2"}});
  add("opd_with_reward", "masked", "opd", {{"reward_weight", 0.5}, {"beta", 0.25}});
  return cases;
}

}  // namespace loss_suite

Suite LossSuite() {
  using namespace loss_suite;
  Family f{
      .name = "loss",
      .semantics =
          {"loss = sum over i, t with mask[i, t] = 1 of w_i term[i, t]; docs/objectives.md has the formula of every "
           "switch.",
           "Completions stand group after group, group_size each. T_i, the tokens of completion i, are those with mask "
           "1; a masked token is as if it were not there. A completion without tokens counts among the B completions.",
           "term = policy + beta KL (kl_in = loss) - entropy_coef entropy; its weight w_i is that of the normalizer.",
           "Standard deviations have Bessel's correction, and 1e-4 is added to them. If there is a baseline, a group "
           "whose rewards, the overlong penalty and the KL (kl_in = reward) taken off, are all equal gets exactly 0; "
           "the KL to go (kl_in = return) or each token's own (advantage) and then whitening come after that, and move "
           "it. reward_weight multiplies the rewards before anything else.",
           "clip = ppo: -min(rho A, clip(rho, 1 - epsilon, 1 + epsilon_high) A). clip = weight: -min(rho, 1 + "
           "epsilon_high) A log p, with no gradient through the factor.",
           "old_logp, ref_logp, rewards and advantages are constants of the gradient; entropy is a variable of its "
           "own."},
      .inputs = {{"logp", "[B, T]", "log-probabilities of the tokens under the policy"},
                 {"old_logp", "[B, T]", "the same under the policy that sampled them"},
                 {"ref_logp", "[B, T]", "the same under the reference model"},
                 {"entropy", "[B, T]", "entropy of the policy's distribution at the token"},
                 {"mask", "[B, T]", "1 for a sampled token that counts, 0 for padding and what others wrote"},
                 {"rewards", "[B]", "of the completions"}},
      .outputs = {{"advantages", "[B, T]", "A of each token; 0 where mask is 0"},
                  {"terms", "[B, T]", "each token's term before its weight; 0 where mask is 0"},
                  {"loss", "[1]", "the loss"},
                  {"dlogp", "[B, T]", "gradient of logp", true},
                  {"dentropy", "[B, T]", "gradient of entropy", true}},
      .roundings = {{"difference from the mean", "deviation", "advantage", "logp - old_logp", "ratio", "clipped ratio",
                     "ratio times advantage", "logp - ref_logp", "KL", "beta KL", "sum of the terms", "weight"},
                    {"gradient of the ratio", "gradient of the KL", "their sum"}},
      .mistakes = NamesOf(kMistakes),
      .cases = Cases(),
      .evaluate = Evaluate};
  return {"loss",
          "Policy-gradient objectives: advantages, terms, loss and gradient from log-probabilities and rewards.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
