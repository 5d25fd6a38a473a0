// SPDX-License-Identifier: Apache-2.0
#include "study/arms.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/check.h"
#include "model/convert.h"
#include "rl/objective_names.h"
#include "study/records/fields.h"
#include "study/study.h"

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

// Calls read(), and opens the sentence of what it refuses with `where`.
template <class F>
void Naming(const std::string& where, const F& read) {
  try {
    read();
  } catch (const UsageError& e) {
    throw Error(Concat(where, ": ", e.what()));
  }
}

// Sets the schedule too.
void CheckOptimizer(const std::string& where, OptimizerOptions& o, const std::string& schedule) {
  Naming(where, [&] { o.schedule = ParseSchedule(schedule); });
  const auto check = [&](const char* field, double value, double least, double most) {
    SWARR_CHECK(value >= least && value <= most, where, ".", field, " is ", value, "; it must be from ", least, " to ",
                most);
  };
  check("lr", o.lr, 0, 1e3);
  check("min_lr_ratio", o.min_lr_ratio, 0, 1);
  check("weight_decay", o.adamw.weight_decay, 0, 1e3);
  for (const auto& [field, beta] : {std::pair("beta1", o.adamw.beta1), std::pair("beta2", o.adamw.beta2)}) {
    SWARR_CHECK(beta >= 0 && beta < 1, where, ".", field, " is ", beta, "; it must be from 0 to below 1");
  }
  check("max_grad_norm", o.max_grad_norm, 0, 1e9);
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

// "full", "windowed" or an object with a window.
ArmAttention AttentionOf(const std::string& where, const ordered_json& json, AttentionSpec windowed) {
  if (json == "full") return {};
  if (json == "windowed") return {.spec = windowed};
  SWARR_CHECK(json.is_object(), where, " is ", json.dump(), "; use \"full\", \"windowed\" or an object with a window");
  ArmAttention attention;
  AttentionSpec& spec = attention.spec;
  ReadFields(where, json, {Field("window", spec.window)},
             {Field("sinks", spec.sinks), Field("full_every", attention.full_every),
              Field("learned_sinks", attention.learned_sinks)});
  SWARR_CHECK(spec.window > 0 || (spec.sinks == 0 && attention.full_every == 0), where,
              " has sinks or full_every and no window; under full attention every layer sees all keys");
  SWARR_CHECK(attention.full_every != 1, where, ".full_every is 1, which leaves no layer a window; use 2 or more");
  return attention;
}

class ArmReader {
 public:
  ArmReader(std::string path, const StudySettings& settings) : path_(std::move(path)), settings_(settings) {}

  ArmPlan Read(const std::vector<ArmPlan>& before, const ordered_json& json) {
    ArmPlan arm{.task = settings_.json["task"]};
    ordered_json attention, sft, rl, share, samples, sample_problems, keep, kl, weight;
    std::vector<std::pair<std::string, ordered_json>> traces;  // the task's fields that are of completions
    for (const TaskParameter& p : settings_.task.parameters) {
      if (p.of_completions) traces.emplace_back(p.Field(), ordered_json());
    }
    std::vector<Field> optional = {Field("attention", attention),
                                   Field("sft", sft),
                                   Field("rl", rl),
                                   Field("tokens_of", arm.tokens_of),
                                   Field("tokens_share", share),
                                   Field("samples_of", arm.samples_of),
                                   Field("samples", samples),
                                   Field("sample_problems", sample_problems),
                                   Field("keep", keep),
                                   Field("teacher", arm.teacher),
                                   Field("kl", kl),
                                   Field("distill_weight", weight)};
    for (auto& [field, value] : traces) optional.emplace_back(field, value);
    ReadFields(Concat(path_, ": arms[", before.size(), "]"), json, {Field("arm", arm.name), Field("from", arm.from)},
               optional);
    where_ = Concat(path_, ": arm '", arm.name, "'");
    CheckName(before, arm);
    const ArmPlan* from = arm.from == kBaseModel ? nullptr : &Find(before, "from", arm.from);
    arm.attention = !attention.is_null() ? AttentionOf(where_ + ".attention", attention, settings_.attention)
                    : from               ? from->attention
                                         : ArmAttention{};
    SWARR_CHECK(sft.is_null() || rl.is_null(), where_, " has both sft and rl; an arm has one stage");
    for (const auto& [field, name] : {std::pair("tokens_of", arm.tokens_of), std::pair("samples_of", arm.samples_of),
                                      std::pair("teacher", arm.teacher)}) {
      if (!name.empty()) Find(before, field, name);
    }
    SWARR_CHECK(arm.tokens_of.empty() || Find(before, "tokens_of", arm.tokens_of).training != ArmTraining::kNone,
                where_, ".tokens_of is '", arm.tokens_of, "', which is not trained");
    if (!sft.is_null()) ReadSft(arm, sft);
    if (!rl.is_null()) ReadRl(arm, rl);
    const bool distils = arm.training == ArmTraining::kSft && !arm.teacher.empty();
    arm.tokens_share =
        NumberOf(share, "tokens_share", arm.tokens_share, 1e-6, 100, !arm.tokens_of.empty(), "tokens_of");
    arm.samples = static_cast<int>(
        NumberOf(samples, "samples", arm.samples, 1, kMostCount, !arm.samples_of.empty(), "samples_of"));
    arm.sft.distill.weight = NumberOf(weight, "distill_weight", 1, 0, 1, distils, "sft with a teacher");
    if (!kl.is_null()) {
      SWARR_CHECK(distils, where_, " has kl, which is for sft with a teacher");
      SWARR_CHECK(kl == "forward" || kl == "reverse", where_, ".kl is ", kl.dump(), "; use \"forward\" or \"reverse\"");
      arm.sft.distill.options.direction = kl == "forward" ? KlDirection::kForward : KlDirection::kReverse;
    }
    arm.sample_problems = static_cast<std::int64_t>(
        NumberOf(sample_problems, "sample_problems", 0, 1, kMostCount, !arm.samples_of.empty(), "samples_of"));
    if (!keep.is_null()) {
      SWARR_CHECK(!arm.samples_of.empty(), where_, " has keep, which is for samples_of");
      SWARR_CHECK(keep.is_string(), where_, ".keep is ", keep.dump(), "; it is a name");
      Naming(where_, [&] { arm.keep = ParseName<Keep>("keep", keep.get<std::string>()); });
    }
    for (const auto& [field, value] : traces) ReadShare(arm, field, value);
    const bool imitates = arm.training == ArmTraining::kSft;
    SWARR_CHECK(imitates || (arm.tokens_of.empty() && arm.samples_of.empty()), where_,
                " has tokens_of or samples_of, which are for arms with sft");
    SWARR_CHECK(arm.training != ArmTraining::kNone || arm.teacher.empty(), where_, " has a teacher and no training");
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

  // A number that has an effect only if `used`, beside the field `with`.
  double NumberOf(const ordered_json& json, const char* field, double absent, double least, double most, bool used,
                  const char* with) const {
    if (json.is_null()) return absent;
    SWARR_CHECK(used, where_, " has ", field, ", which is for ", with);
    SWARR_CHECK(json.is_number() && json >= least && json <= most, where_, ".", field, " is ", json.dump(),
                "; it must be from ", least, " to ", most);
    return json.get<double>();
  }

  const ArmPlan& Find(const std::vector<ArmPlan>& before, const char* field, const std::string& name) const {
    const auto found = std::ranges::find(before, name, &ArmPlan::name);
    SWARR_CHECK(found != before.end(), where_, ".", field, " is '", name, "', which is no arm before it");
    return *found;
  }

  void ReadSft(ArmPlan& arm, const ordered_json& changes) const {
    arm.training = ArmTraining::kSft;
    arm.stage = Merged(settings_.json["sft"], where_ + ".sft", changes);
    ReadSftStage(where_ + ".sft", arm.stage, arm.sft, arm.optimizer);
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

  // Of the traces that SFT imitates.
  void ReadShare(ArmPlan& arm, const std::string& field, const ordered_json& json) const {
    if (json.is_null()) return;
    SWARR_CHECK(json.is_number() && json >= 0 && json <= 1, where_, '.', field, " is ", json.dump(),
                "; it must be from 0 to 1");
    SWARR_CHECK(arm.training == ArmTraining::kSft && arm.samples_of.empty(), where_, " has a ", field,
                ", which is of the traces that sft imitates");
    arm.task[field] = json;
  }

  const std::string path_;
  const StudySettings& settings_;
  std::string where_;
};

}  // namespace

std::vector<AttentionSpec> LayersOf(const ArmAttention& attention, int layers) {
  if (attention.full_every == 0) return std::vector<AttentionSpec>(static_cast<std::size_t>(layers), attention.spec);
  return WindowedAttention(layers, attention.spec, EveryLayer(layers, attention.full_every));
}

void ReadSftStage(const std::string& where, const ordered_json& object, SftOptions& sft, OptimizerOptions& optimizer) {
  std::string schedule;
  ReadFields(
      where, object,
      Joined({Field("steps", sft.steps), Field("batch_size", sft.batch_size)}, OptimizerFields(optimizer, schedule)));
  CheckOptimizer(where, optimizer, schedule);
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
  CheckOptimizer(where, optimizer, schedule);
  ordered_json objective = ordered_json::object();
  for (const auto& [field, value] :
       {std::pair("objective", name), std::pair("scale_rewards", scale_rewards), std::pair("normalizer", normalizer)}) {
    if (!value.empty()) objective[field] = value;
  }
  if (!std::isnan(epsilon)) objective["epsilon"] = epsilon;
  for (std::size_t i = 0; i < kSwitches.size(); ++i) {
    if (!values[i].is_null()) objective[kSwitches[i]] = values[i];
  }
  Naming(where, [&] {
    rl.objective = ObjectiveFromJson(objective);
    rl.max_completion_length = rl.objective.max_completion_length = max_completion_length;
    CheckObjective(rl.objective);
  });
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
