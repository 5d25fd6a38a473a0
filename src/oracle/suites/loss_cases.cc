// SPDX-License-Identifier: Apache-2.0
#include "oracle/suites/loss_cases.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "oracle/suites/loss_rule.h"
#include "rl/objective_names.h"
#include "tensor/bf16.h"

namespace swarr::oracle {
namespace loss_suite {

using nlohmann::ordered_json;

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

}  // namespace loss_suite

std::vector<Case> LossCases() {
  using namespace loss_suite;
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
  add("dapo_half_longest", "near", "dapo", {{"max_completion_length", 4}, {"overlong_share", 0}});
  add("dr_grpo_longest", "mixed", "dr_grpo", {{"max_completion_length", 8}});
  add("kl_beside_ratios", "mixed", "grpo", {{"beta", 0.25}});
  add("kl_beside_sequence_ratios", "mixed", "gspo", {{"beta", 0.25}, {"kl", "k2"}});
  add("opd_with_reward", "masked", "opd", {{"reward_weight", 0.5}, {"beta", 0.25}});
  return cases;
}

namespace loss_suite {

// The right advantages of a case, as bf16 holds them.
Value GivenAdvantages(const Case& c) {
  Noise none;
  Value advantages = AdvantagesOf(c.inputs, RightRule(c), c.Integer("group_size"), none);
  for (double& a : advantages.data) a = static_cast<double>(static_cast<float>(BFloat16(a)));
  return advantages;
}

// The cases of a part: those of the whole with these parameters and inputs alone, and each once where that makes
// several the same but for the numbers that are drawn.
std::vector<Case> CasesOfPart(const std::vector<std::string>& parameters, const std::vector<std::string>& inputs) {
  std::vector<Case> cases;
  for (const Case& whole : LossCases()) {
    Case part{whole.name, whole.meaning, {}, {}, whole.longest_sum};
    for (const std::string& name : parameters) part.parameters[name] = whole.parameters.at(name);
    // Without a KL it is all the same which one there is not.
    if (whole.Number("beta") == 0) part.parameters.update({{"kl", "k3"}, {"kl_in", "loss"}});
    const auto same = [&](const Case& c) { return c.meaning == part.meaning && c.parameters == part.parameters; };
    if (std::ranges::any_of(cases, same)) continue;
    Values known = whole.inputs;
    known["advantages"] = GivenAdvantages(whole);
    for (const std::string& name : inputs) part.inputs[name] = known.at(name);
    cases.push_back(std::move(part));
  }
  return cases;
}

}  // namespace loss_suite

std::vector<Case> AdvantageCases() {
  return loss_suite::CasesOfPart({"group_size", "reward_weight", "baseline", "scale_rewards", "whiten",
                                  "max_completion_length", "kl", "kl_in", "beta", "overlong_share"},
                                 {"old_logp", "ref_logp", "mask", "rewards"});
}

std::vector<Case> PolicyCases() {
  return loss_suite::CasesOfPart({"group_size", "ratio", "clip", "epsilon", "epsilon_high", "normalizer",
                                  "max_completion_length", "kl", "kl_in", "beta", "entropy_coef"},
                                 {"logp", "old_logp", "ref_logp", "entropy", "mask", "advantages"});
}

}  // namespace swarr::oracle
