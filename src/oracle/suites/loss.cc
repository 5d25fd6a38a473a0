// SPDX-License-Identifier: Apache-2.0
// The suite `loss`: every objective of rl/objective.h, from log-probabilities and rewards to the loss and its gradient.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "oracle/suites/loss_rule.h"
#include "rl/objective_names.h"

namespace swarr::oracle {
namespace {

using nlohmann::ordered_json;

LossRule RuleOf(const Case& c) {
  ordered_json switches = c.parameters;
  for (const char* other : {"group_size", "objective"}) switches.erase(other);
  return {ObjectiveFromJson(switches)};
}

Values Evaluate(const Context&, const Case& c, const Values& inputs, const std::string& mistake, Noise& noise) {
  LossRule rule = WithMistake(RuleOf(c), LossMistakes(), mistake);
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

struct Batch {
  const char* name;
  const char* meaning;
  int group_size;
  const char* rows;  // one for each completion: x is a sampled token, . is padding or what somebody else wrote
  std::vector<double> rewards;
  std::vector<double> gaps = kNear;      // log p - log p_old is one of these
  std::vector<double> ref_gaps = kRefs;  // and log p_ref - log p_old one of these
  double highest = -0.25;                // of log p_old
};

const Batch kBatches[] = {
    {"mixed",
     "two groups of four, ratios on both sides of both clips",
     4,
     "xxxxxx.. xxx..... xxxxxxxx x....... xxxxx... xx...... xxxxxxx. xxxx....",
     {1, 0, 0, 0.5, 0, 1, 1, 0.25},
     kFar},
    {"masked",
     "tokens of a tool within completions, an empty completion, a group without spread, an empty group",
     3,
     "xx..xx.. ..xxxx.. xxxxxxxx x.x.x.x. xxxx.... ........ ........ ........ ........ xxx..... xxxxxx.. .xxxxx..",
     {1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1},
     kFar},
    {"near", "three pairs, ratios within the clips", 2, "xxxx xx.. xxx. xxxx x... xxx.", {1, 0, 0.5, 0, 0.25, 1}},
    {"on_policy", "every ratio is 1", 4, "xxxx xx.. xxx. xxxx", {1, 0, 0.5, 0}, {0}},
    {"short", "two completions of two tokens: a variance over four values", 2, "xx xx", {1, 0}},
    {"small_spread",
     "rewards that differ by some thousandths: the 1e-4 beside the deviation is seen",
     2,
     "xxxx xx.. xxx. xxxx",
     {0.001953125, 0, 0.0009765625, 0}},
    {"low",
     "every ratio below the lower clip, none as long as the batch is wide",
     2,
     "xxxx.. xx.... xxx... x.....",
     {1, 0, 0.5, 0},
     {-2, -1.5, -1}},
    {"far_reference",
     "tokens much likelier under the reference: k3 beyond 10, as clamped by some",
     2,
     "xxxx xx.. xxx. xxxx",
     {1, 0, 0.5, 0},
     kNear,
     {0.5, 4.5, 4.75},
     -5.25},
    {"left_reference",
     "tokens much likelier than under the reference: the KL to go falls steeply from token to token",
     2,
     "xxxx xx.. xxx. xxxx",
     {1, 0, 0.5, 0},
     kNear,
     {-5, -4.5, -4}},
    {"drifted",
     "the logarithm of the mean ratio beyond 10, as cut by some; within what f16 holds",
     2,
     "xxxxxxxx xxxxxx..",
     {0.015625, 0},
     {10.875, 11},
     kRefs,
     -11.25},
    {"drifted_product",
     "the logarithm of the product of the ratios beyond 10; within what f16 holds",
     2,
     "xxxxxxxxxxxxxxxx xxxxxxxxxxxxxxx.",
     {0.015625, 0},
     {0.6875},
     kRefs,
     -0.75},
};

struct Setting {
  std::string name, batch;
  ordered_json switches;  // with "objective"
};

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  const auto add = [&](const std::string& name, const char* batch, const std::string& objective,
                       const ordered_json& switches = ordered_json::object()) {
    settings.push_back({name, batch, switches});
    settings.back().switches["objective"] = objective;
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
  add("sequence_sum", "masked", "grpo", {{"normalizer", "sequence-sum"}});
  return settings;
}

Case MakeCase(const Setting& s) {
  const Batch& batch = *std::ranges::find(kBatches, s.batch, &Batch::name);
  std::vector<std::string> rows;
  std::istringstream text(batch.rows);
  for (std::string row; text >> row;) rows.push_back(row);
  const std::int64_t N = std::ssize(rows), T = std::ssize(rows[0]);
  ordered_json switches = s.switches;
  // DAPO's penalty reaches completions of T tokens; for the others nothing comes near the longest length.
  switches["max_completion_length"] = switches["objective"] == "dapo" ? T + 1 : 2 * T;
  Case c{s.name, batch.meaning, {{"objective", switches["objective"]}, {"group_size", batch.group_size}}, {}, N * T};
  c.parameters.update(ToJson(ObjectiveFromJson(switches)));

  PhiloxStream random = StreamOf("loss", s.name);
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

}  // namespace

Suite LossSuite() {
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
           "the KL to go (kl_in = return) and then whitening come after that, and move it.",
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
      .mistakes = NamesOf(LossMistakes()),
      .cases = CasesOf(Settings(), MakeCase),
      .evaluate = Evaluate};
  return {"loss",
          "Policy-gradient objectives: advantages, terms, loss and gradient from log-probabilities and rewards.",
          {std::move(f)}};
}

}  // namespace swarr::oracle
