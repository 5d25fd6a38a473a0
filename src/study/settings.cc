// SPDX-License-Identifier: Apache-2.0
// Reads data/presets/<name>.json.
#include <limits>
#include <set>
#include <tuple>
#include <type_traits>
#include <variant>

#include "base/files.h"
#include "model/limits.h"
#include "rl/objective_names.h"
#include "study/study.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// A field of the file, and where its value goes.
struct Field {
  template <class T>
  Field(const char* field, T& target) : name(field), to(&target) {}
  const char* name;
  std::variant<int*, std::int64_t*, double*, std::string*, ordered_json*> to;
};

// `where` names the field. The library would cut a number that the type does not hold.
template <class T>
void ReadValue(const std::string& where, const ordered_json& json, T& to) {
  if constexpr (std::is_same_v<T, int> || std::is_same_v<T, std::int64_t>) {
    const bool fits =
        !json.is_number() || (json.is_number_integer() && json >= 0 && json <= std::numeric_limits<T>::max());
    SWARR_CHECK(fits, where, " is ", json.dump(), " where a whole number from 0 to ", std::numeric_limits<T>::max(),
                " is needed");
  }
  try {
    json.get_to(to);
  } catch (const ordered_json::exception&) {
    throw Error(Concat(where, " is ", json.dump(), ", which has the wrong type"));
  }
}

// Reads one object of the file. It must have these fields and no other.
void ReadFields(const std::string& path, const char* name, ordered_json object, const std::vector<Field>& fields) {
  SWARR_CHECK(object.is_object(), path, " has no object '", name, "'");
  const std::string where = Concat(path, ": ", name);
  for (const Field& field : fields) {
    const auto found = object.find(field.name);
    SWARR_CHECK(found != object.end(), where, " has no field '", field.name, "'");
    std::visit([&](auto* to) { ReadValue(Concat(where, ".", field.name), *found, *to); }, field.to);
    object.erase(found);
  }
  SWARR_CHECK(object.empty(), where, " has an unknown field '", object.begin().key(), "'");
}

// Reads an object that has the optimizer's fields beside these.
void ReadStage(const std::string& path, const char* name, const ordered_json& object, std::vector<Field> fields,
               OptimizerOptions& o) {
  std::string schedule;
  fields.insert(fields.end(), {Field("lr", o.lr), Field("lr_schedule", schedule), Field("min_lr_ratio", o.min_lr_ratio),
                               Field("warmup_steps", o.warmup_steps), Field("weight_decay", o.adamw.weight_decay),
                               Field("beta1", o.adamw.beta1), Field("beta2", o.adamw.beta2),
                               Field("max_grad_norm", o.max_grad_norm)});
  ReadFields(path, name, object, fields);
  o.schedule = ParseSchedule(schedule);
}

std::string NamesOf(const std::filesystem::path& presets) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(presets, error)) {
    names.insert(entry.path().stem().string());
  }
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "none" : list;
}

}  // namespace

StudySettings ReadStudySettings(const std::filesystem::path& data_dir, const std::string& preset) {
  const std::filesystem::path presets = data_dir / "presets", file = presets / (preset + ".json");
  if (!std::filesystem::exists(file)) {
    throw UsageError(Concat("there is no preset '", preset, "' in ", presets.string(), "; it has ", NamesOf(presets)));
  }
  const std::string path = file.string();
  StudySettings s;
  s.json = ParseJson<ordered_json>(ReadFile(file), path);
  ordered_json task, attention, evaluation, cost, sft, rl;
  ReadFields(path, "root", s.json,
             {Field("base_model", s.base_model), Field("task", task), Field("attention", attention),
              Field("evaluation", evaluation), Field("cost", cost), Field("sft", sft), Field("rl", rl)});
  ReadFields(path, "task", task,
             {Field("n_min", s.task.n_min), Field("n_max", s.task.n_max),
              Field("restate_probability", s.task.restate_probability)});
  ReadFields(path, "attention", attention, {Field("window", s.attention.window), Field("sinks", s.attention.sinks)});
  SWARR_CHECK(s.attention.window >= 1, path, ": attention.window is ", s.attention.window,
              "; the study needs a window of at least 1 token");
  ReadFields(path, "evaluation", evaluation, {Field("problems", s.evaluation_problems)});
  ReadFields(path, "cost", cost, {Field("longest", s.longest_cost)});
  constexpr int kLeastLongest = 64;  // a 64th of it is a token
  SWARR_CHECK(s.longest_cost >= kLeastLongest && s.longest_cost <= kMostPositions, path, ": cost.longest is ",
              s.longest_cost, "; it must be from ", kLeastLongest, " to ", kMostPositions);
  ReadStage(path, "sft", sft, {Field("steps", s.sft.steps), Field("batch_size", s.sft.batch_size)}, s.sft_optimizer);

  std::string objective, scale_rewards, normalizer;
  double epsilon = 0;
  ReadStage(path, "rl", rl,
            {Field("steps", s.rl.steps), Field("prompts_per_step", s.rl.prompts_per_step),
             Field("num_generations", s.rl.num_generations), Field("objective", objective),
             Field("scale_rewards", scale_rewards), Field("normalizer", normalizer), Field("epsilon", epsilon)},
            s.rl_optimizer);
  s.rl.objective = ObjectiveFromJson(
      {{"objective", objective}, {"scale_rewards", scale_rewards}, {"normalizer", normalizer}, {"epsilon", epsilon}});
  const std::vector<std::tuple<const char*, std::int64_t, std::int64_t>> counts = {
      {"task.n_max", s.task.n_max, kMaxChainSteps},
      {"sft.steps", s.sft.steps, kMostSteps},
      {"sft.batch_size", s.sft.batch_size, kMostCount},
      {"rl.steps", s.rl.steps, kMostSteps},
      {"rl.prompts_per_step", s.rl.prompts_per_step, kMostCount},
      {"rl.num_generations", s.rl.num_generations, kMostCount}};
  for (const auto& [name, value, most] : counts) {
    SWARR_CHECK(value >= 1 && value <= most, path, ": ", name, " is ", value, "; it must be from 1 to ", most);
  }
  s.rl.max_completion_length = ChainTokenLimit(s.task.n_max);
  s.rl.objective.max_completion_length = s.rl.max_completion_length;
  CheckObjective(s.rl.objective);
  return s;
}

}  // namespace swarr
