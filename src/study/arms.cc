// SPDX-License-Identifier: Apache-2.0
#include "study/arms.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/check.h"
#include "rl/objective_names.h"
#include "study/fields.h"
#include "study/study.h"
#include "task/chain.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// The fields of a stage that are the optimizer's.
std::vector<Field> OptimizerFields(OptimizerOptions& o, std::string& schedule) {
  return {Field("lr", o.lr),
          Field("lr_schedule", schedule),
          Field("min_lr_ratio", o.min_lr_ratio),
          Field("warmup_steps", o.warmup_steps),
          Field("weight_decay", o.adamw.weight_decay),
          Field("beta1", o.adamw.beta1),
          Field("beta2", o.adamw.beta2),
          Field("max_grad_norm", o.max_grad_norm)};
}

std::vector<Field> Joined(std::vector<Field> fields, const std::vector<Field>& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

void CheckCounts(const std::string& where,
                 std::initializer_list<std::tuple<const char*, std::int64_t, std::int64_t>> counts) {
  for (const auto& [name, value, most] : counts) {
    SWARR_CHECK(value >= 1 && value <= most, where, ".", name, " is ", value, "; it must be from 1 to ", most);
  }
}

// `preset` with the fields of `changes`; null takes a field out.
ordered_json Merged(ordered_json preset, const std::string& where, const ordered_json& changes) {
  SWARR_CHECK(changes.is_object(), where, " is no object");
  for (const auto& [name, value] : changes.items()) {
    if (value.is_null()) {
      preset.erase(name);
    } else {
      preset[name] = value;
    }
  }
  return preset;
}

// "full", "windowed" or {"window", "sinks"}.
AttentionSpec AttentionOf(const std::string& where, const ordered_json& json, AttentionSpec windowed) {
  if (json == "full") return {};
  if (json == "windowed") return windowed;
  AttentionSpec spec;
  ReadFields(where, json, {Field("window", spec.window), Field("sinks", spec.sinks)});
  return spec;
}

class ArmReader {
 public:
  ArmReader(std::string path, const StudySettings& settings) : path_(std::move(path)), settings_(settings) {}

  ArmPlan Read(const std::vector<ArmPlan>& before, const ordered_json& json) {
    ArmPlan arm{.restate_probability = settings_.task.restate_probability};
    ordered_json attention, sft, rl, restate;
    std::string kl = "forward";
    double distill_weight = 1;
    ReadFields(Concat(path_, ": arms[", before.size(), "]"), json, {Field("arm", arm.name), Field("from", arm.from)},
               {Field("attention", attention), Field("sft", sft), Field("rl", rl), Field("tokens_of", arm.tokens_of),
                Field("tokens_share", arm.tokens_share), Field("samples_of", arm.samples_of),
                Field("samples", arm.samples), Field("teacher", arm.teacher), Field("kl", kl),
                Field("distill_weight", distill_weight), Field("restate_probability", restate)});
    where_ = Concat(path_, ": arm '", arm.name, "'");
    CheckName(before, arm);
    const ArmPlan* from = arm.from == kBaseModel ? nullptr : &Find(before, "from", arm.from);
    arm.attention = !attention.is_null() ? AttentionOf(where_ + ".attention", attention, settings_.attention)
                    : from               ? from->attention
                                         : AttentionSpec{};
    SWARR_CHECK(sft.is_null() || rl.is_null(), where_, " has both sft and rl; an arm has one stage");
    for (const auto& [field, name] : {std::pair("tokens_of", arm.tokens_of), std::pair("samples_of", arm.samples_of),
                                      std::pair("teacher", arm.teacher)}) {
      if (!name.empty()) Find(before, field, name);
    }
    if (!sft.is_null()) ReadSft(arm, sft, kl, distill_weight);
    if (!rl.is_null()) ReadRl(arm, rl);
    ReadRestate(arm, restate);
    const bool imitates = arm.training == ArmTraining::kSft;
    SWARR_CHECK(imitates || (arm.tokens_of.empty() && arm.samples_of.empty()), where_,
                " has tokens_of or samples_of, which are for arms with sft");
    SWARR_CHECK(arm.training != ArmTraining::kNone || arm.teacher.empty(), where_, " has a teacher and no training");
    CheckCounts(where_, {{"samples", arm.samples, kMostCount}});
    SWARR_CHECK(arm.tokens_share > 0 && arm.tokens_share <= 100, where_, ".tokens_share is ", arm.tokens_share,
                "; it must be above 0 and at most 100");
    return arm;
  }

 private:
  void CheckName(const std::vector<ArmPlan>& before, const ArmPlan& arm) const {
    const bool plain = !arm.name.empty() && std::ranges::all_of(arm.name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    SWARR_CHECK(plain && arm.name != kBaseModel, where_, ": a name has small letters, digits and _, and is not '",
                kBaseModel, "'");
    SWARR_CHECK(std::ranges::find(before, arm.name, &ArmPlan::name) == before.end(), where_, " is listed twice");
  }

  const ArmPlan& Find(const std::vector<ArmPlan>& before, const char* field, const std::string& name) const {
    const auto found = std::ranges::find(before, name, &ArmPlan::name);
    SWARR_CHECK(found != before.end(), where_, ".", field, " is '", name, "', which is no arm before it");
    return *found;
  }

  void ReadSft(ArmPlan& arm, const ordered_json& changes, const std::string& kl, double distill_weight) const {
    arm.training = ArmTraining::kSft;
    arm.stage = Merged(settings_.json["sft"], where_ + ".sft", changes);
    ReadSftStage(where_ + ".sft", arm.stage, arm.sft, arm.optimizer);
    arm.sft.distill.weight = distill_weight;
    arm.sft.distill.options.direction = ParseName<KlDirection>("kl", kl);
  }

  void ReadRl(ArmPlan& arm, const ordered_json& changes) const {
    arm.training = ArmTraining::kRl;
    arm.stage = Merged(settings_.json["rl"], where_ + ".rl", changes);
    ReadRlStage(where_ + ".rl", arm.stage, settings_.rl.max_completion_length, arm.rl, arm.optimizer);
    SWARR_CHECK(arm.rl.objective.beta == 0 || !arm.teacher.empty(), where_,
                " has an objective with a reference model; name it as its teacher");
    SWARR_CHECK(arm.rl.objective.beta != 0 || arm.teacher.empty(), where_,
                " has a teacher, which its objective does not use; give it a beta, or the objective opd");
  }

  void ReadRestate(ArmPlan& arm, const ordered_json& json) const {
    if (json.is_null()) return;
    SWARR_CHECK(json.is_number() && json >= 0 && json <= 1, where_, ".restate_probability is ", json.dump(),
                "; it must be from 0 to 1");
    SWARR_CHECK(arm.training == ArmTraining::kSft && arm.samples_of.empty(), where_,
                " has a restate_probability, which is of the traces that sft imitates");
    arm.restate_probability = json;
  }

  const std::string path_;
  const StudySettings& settings_;
  std::string where_;
};

}  // namespace

void ReadSftStage(const std::string& where, const ordered_json& object, SftOptions& sft, OptimizerOptions& optimizer) {
  std::string schedule;
  ReadFields(
      where, object,
      Joined({Field("steps", sft.steps), Field("batch_size", sft.batch_size)}, OptimizerFields(optimizer, schedule)));
  optimizer.schedule = ParseSchedule(schedule);
  CheckCounts(where, {{"steps", sft.steps, kMostSteps}, {"batch_size", sft.batch_size, kMostCount}});
}

void ReadRlStage(const std::string& where, const ordered_json& object, int max_completion_length, RlOptions& rl,
                 OptimizerOptions& optimizer) {
  // The switches of the objective, which reads their values itself.
  static constexpr std::array kSwitches = {"beta",     "overlong_share", "kl",           "kl_in",
                                           "baseline", "entropy_coef",   "ratio",        "clip",
                                           "whiten",   "epsilon_high",   "reward_weight"};
  std::array<ordered_json, kSwitches.size()> values;
  std::string schedule, name, scale_rewards, normalizer;
  double epsilon = kUndefined;
  std::vector<Field> switches = {Field("objective", name), Field("scale_rewards", scale_rewards),
                                 Field("normalizer", normalizer), Field("epsilon", epsilon)};
  for (std::size_t i = 0; i < kSwitches.size(); ++i) switches.emplace_back(kSwitches[i], values[i]);
  ReadFields(where, object,
             Joined({Field("steps", rl.steps), Field("prompts_per_step", rl.prompts_per_step),
                     Field("num_generations", rl.num_generations)},
                    OptimizerFields(optimizer, schedule)),
             switches);
  optimizer.schedule = ParseSchedule(schedule);
  ordered_json objective = ordered_json::object();
  for (const auto& [field, value] :
       {std::pair("objective", name), std::pair("scale_rewards", scale_rewards), std::pair("normalizer", normalizer)}) {
    if (!value.empty()) objective[field] = value;
  }
  if (!std::isnan(epsilon)) objective["epsilon"] = epsilon;
  for (std::size_t i = 0; i < kSwitches.size(); ++i) {
    if (!values[i].is_null()) objective[kSwitches[i]] = values[i];
  }
  rl.objective = ObjectiveFromJson(objective);
  rl.max_completion_length = rl.objective.max_completion_length = max_completion_length;
  CheckObjective(rl.objective);
  CheckCounts(where, {{"steps", rl.steps, kMostSteps},
                      {"prompts_per_step", rl.prompts_per_step, kMostCount},
                      {"num_generations", rl.num_generations, kMostCount}});
}

std::vector<ArmPlan> ReadArms(const std::string& path, const ordered_json& json, const StudySettings& settings) {
  SWARR_CHECK(json.is_array() && !json.empty(), path, ": arms is no list of arms");
  std::vector<ArmPlan> arms;
  for (const ordered_json& entry : json) arms.push_back(ArmReader(path, settings).Read(arms, entry));
  return arms;
}

}  // namespace swarr
