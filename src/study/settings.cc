// SPDX-License-Identifier: Apache-2.0
#include "study/settings.h"

#include <algorithm>
#include <set>

#include "rl/objective_names.h"
#include "tensor/files.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

// Takes the fields out of one object of the file, and complains about those that nobody took.
class Fields {
 public:
  Fields(const ordered_json& parent, const std::string& where, const char* name) : where_(where + ": " + name) {
    SWARR_CHECK(parent.contains(name) && parent[name].is_object(), where, " has no object '", name, "'");
    object_ = parent[name];
  }

  template <class T>
  void Take(const char* name, T& to) {
    SWARR_CHECK(object_.contains(name), where_, " has no field '", name, "'");
    try {
      to = object_[name].get<T>();
    } catch (const ordered_json::exception&) {
      throw Error(Concat(where_, ".", name, " is ", object_[name].dump(), ", which has the wrong type"));
    }
    object_.erase(name);
  }

  void ExpectNoMore() const {
    SWARR_CHECK(object_.empty(), where_, " has an unknown field '", object_.begin().key(), "'");
  }

 private:
  std::string where_;
  ordered_json object_;
};

void TakeOptimizer(Fields& fields, OptimizerOptions& options) {
  std::string schedule;
  fields.Take("lr", options.lr);
  fields.Take("lr_schedule", schedule);
  fields.Take("min_lr_ratio", options.min_lr_ratio);
  fields.Take("warmup_steps", options.warmup_steps);
  fields.Take("weight_decay", options.adamw.weight_decay);
  fields.Take("beta1", options.adamw.beta1);
  fields.Take("beta2", options.adamw.beta2);
  fields.Take("max_grad_norm", options.max_grad_norm);
  options.schedule = ParseSchedule(schedule);
}

void TakeRl(Fields& fields, StudySettings& settings) {
  ordered_json objective = ordered_json::object();
  fields.Take("steps", settings.rl.steps);
  fields.Take("prompts_per_step", settings.rl.prompts_per_step);
  fields.Take("num_generations", settings.rl.num_generations);
  for (const char* name : {"objective", "scale_rewards", "normalizer", "epsilon"}) fields.Take(name, objective[name]);
  settings.rl.objective = ObjectiveFromJson(objective);
  settings.rl.max_completion_length = ChainTokenLimit(settings.task.n_max);
  settings.rl.objective.max_completion_length = settings.rl.max_completion_length;
  CheckObjective(settings.rl.objective);
  TakeOptimizer(fields, settings.rl_optimizer);
  fields.ExpectNoMore();
}

std::string NamesOf(const std::filesystem::path& presets) {
  std::set<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(presets, error))
    names.insert(entry.path().stem().string());
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "none" : list;
}

}  // namespace

StudySettings ReadStudySettings(const std::filesystem::path& data_dir, const std::string& preset) {
  const std::filesystem::path path = data_dir / "presets" / (preset + ".json");
  if (!std::filesystem::exists(path)) {
    throw UsageError(Concat("there is no preset '", preset, "' in ", path.parent_path().string(), "; it has ",
                            NamesOf(path.parent_path())));
  }
  StudySettings settings;
  settings.json = ParseJson<ordered_json>(ReadFile(path), path.string());
  const ordered_json root = {{"root", settings.json}};
  Fields top(root, path.string(), "root");
  ordered_json ignored;
  top.Take("base_model", settings.base_model);
  for (const char* section : {"task", "attention", "evaluation", "sft", "rl"}) top.Take(section, ignored);
  top.ExpectNoMore();

  Fields task(settings.json, path.string(), "task");
  task.Take("n_min", settings.task.n_min);
  task.Take("n_max", settings.task.n_max);
  task.Take("restate_probability", settings.task.restate_probability);
  task.ExpectNoMore();
  Fields attention(settings.json, path.string(), "attention");
  attention.Take("window", settings.attention.window);
  attention.Take("sinks", settings.attention.sinks);
  attention.ExpectNoMore();
  SWARR_CHECK(settings.attention.window >= 1, path.string(), ": attention.window is ", settings.attention.window,
              "; the study needs a window of at least 1 token");
  Fields evaluation(settings.json, path.string(), "evaluation");
  evaluation.Take("problems", settings.evaluation_problems);
  evaluation.ExpectNoMore();
  Fields sft(settings.json, path.string(), "sft");
  sft.Take("steps", settings.sft.steps);
  sft.Take("batch_size", settings.sft.batch_size);
  TakeOptimizer(sft, settings.sft_optimizer);
  sft.ExpectNoMore();
  Fields rl(settings.json, path.string(), "rl");
  TakeRl(rl, settings);
  return settings;
}

}  // namespace swarr
