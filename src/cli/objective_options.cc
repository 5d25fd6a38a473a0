// SPDX-License-Identifier: Apache-2.0
#include "cli/objective_options.h"

#include <algorithm>

namespace swarr {
namespace {

using nlohmann::ordered_json;

constexpr const char* kGroup = "Objective: a switch that is not given is the named objective's";

std::string NamesOfObjectives() {
  std::string list;
  for (const std::string& name : ObjectiveNames()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

}  // namespace

// `flag` may be "whiten,!--no-whiten"; the switch is called like its first name.
template <class T>
CLI::Option* ObjectiveSwitches::Add(OptionSet& options, const std::string& flag, T& value, const std::string& help) {
  std::string name = flag.substr(0, flag.find(','));
  std::replace(name.begin(), name.end(), '-', '_');
  CLI::Option* option = options.Add(flag, value, help)->group(kGroup)->default_str("");
  switches_.push_back({std::move(name), option, [&value] { return ordered_json(value); },
                       [&value](const ordered_json& to) { value = to.get<T>(); }});
  return option;
}

void ObjectiveSwitches::AddTo(OptionSet& options) {
  options.Add("objective", name_, "what the switches below are by default: " + NamesOfObjectives())->group(kGroup);
  Add(options, "baseline", baseline_, "what is taken off a reward: none, group-mean or leave-one-out");
  Add(options, "scale-rewards", scale_rewards_,
      "standard deviation that the rest is divided by: none, that of the group, or of the batch");
  Add(options, "whiten,!--no-whiten", whiten_, "then advantages are whitened over all tokens of the step");
  Add(options, "ratio", ratio_, "of the policy to the sampler: none, token, sequence or sequence-mean");
  Add(options, "clip", clip_, "of the ratio: none, ppo, or weight (CISPO: a capped, constant factor)");
  Add(options, "epsilon", epsilon_, "the clip's range below 1, and above it where the objective has one range for both")
      ->check(AtLeast(0));
  Add(options, "epsilon-high", epsilon_high_, "the clip's range above 1")->check(AtLeast(0));
  Add(options, "normalizer", normalizer_,
      "what the loss is divided by: token-mean, sequence-mean, constant (--max-completion-length) or sequence-sum");
  Add(options, "kl", kl_, "estimator of the KL from the reference model: k1, k2 or k3");
  Add(options, "kl-in", kl_in_, "where the KL goes: loss, reward, or return (the reward-to-go of each token)");
  Add(options, "beta", beta_, "weight of the KL; 0 needs no reference model")->check(AtLeast(0));
  Add(options, "entropy-coef", entropy_coef_, "weight of the entropy bonus")->check(AtLeast(0));
  Add(options, "dynamic-sampling,!--no-dynamic-sampling", dynamic_sampling_,
      "replace groups whose rewards are all the same by those of further prompts, in at most 10 rounds");
  Add(options, "overlong-share", overlong_share_,
      "end of --max-completion-length, as a share of it, over which a completion's reward falls by 1; 0 is off");
}

ObjectiveOptions ObjectiveSwitches::Resolve() {
  ordered_json given = {{"objective", name_}};
  for (const Switch& s : switches_) {
    if (s.option->count() > 0) given[s.name] = s.read();
  }
  ObjectiveOptions objective = ObjectiveFromJson(given);
  const ordered_json all = ToJson(objective);
  for (const Switch& s : switches_) s.write(all[s.name]);
  objective.max_completion_length = 1;  // stands for the length that is not known yet
  CheckObjective(objective);
  return objective;
}

std::string ObjectiveSwitches::ToText() const {
  const ordered_json named = ToJson(ObjectiveFromJson({{"objective", name_}}));
  std::string all, changed;
  for (const Switch& s : switches_) {
    const ordered_json value = s.read();
    const std::string flag = s.option->get_lnames().front();
    std::string text = value.is_boolean()
                           ? (value.get<bool>() ? " --" : " --no-") + flag
                           : " --" + flag + " " + (value.is_string() ? value.get<std::string>() : value.dump());
    if (value != named[s.name]) changed += text;
    all += std::move(text);
  }
  return "objective " + name_ + (changed.empty() ? "" : ", changed by" + changed) + ", that is" + all;
}

}  // namespace swarr
