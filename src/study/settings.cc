// SPDX-License-Identifier: Apache-2.0
// Reads data/presets/<name>.json.
#include <algorithm>
#include <set>
#include <utility>

#include "base/files.h"
#include "model/limits.h"
#include "study/records/fields.h"
#include "study/rows.h"
#include "study/study.h"

namespace swarr {
namespace {

using nlohmann::ordered_json;

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

// One name or a list of them.
std::vector<std::string> BaseModelsOf(const std::string& path, const ordered_json& json) {
  std::vector<std::string> names;
  for (const ordered_json& name : json.is_array() ? json : ordered_json::array({json})) {
    SWARR_CHECK(name.is_string(), path, ": base_model is ", json.dump(), "; it is a name or a list of names");
    names.push_back(name);
  }
  SWARR_CHECK(!names.empty(), path, ": base_model is an empty list");
  return names;
}

// Refuses to take more problems than there are, which would be fewer than the file says.
void CheckProblems(const std::string& where, std::int64_t asked, const BuiltInTask& task, Split split) {
  const std::int64_t there_are = task.make(split, 0)->size();
  SWARR_CHECK(asked >= 0 && asked <= there_are, where, " asks for ", asked, " problems; the task has ", there_are,
              " of them for ", split == Split::kEval ? "evaluation" : "RL");
}

// Names every parameter of the problems, not of the completions.
void ReadLonger(const std::string& where, const ordered_json& json, StudySettings& s) {
  ordered_json task = s.json["task"];
  std::vector<ordered_json> values(s.task.parameters.size());
  std::vector<Field> fields;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!s.task.parameters[i].of_completions) fields.emplace_back(s.task.parameters[i].Field(), values[i]);
  }
  ReadFields(where, json, fields);
  task.update(json);
  s.longer = ReadTask(where, task);
  const auto [from, to] = s.longer->view.sizes();
  const int most = s.task.view.sizes().second;
  SWARR_CHECK(from > most, where, " has problems of ", from, " to ", to, ' ', s.task.view.step,
              "s; they must be longer than ", most, ' ', s.task.view.step, "s, which training has");
}

}  // namespace

std::filesystem::path BaseModelOf(const StudyOptions& options, const StudySettings& settings, std::uint64_t seed) {
  return options.data_dir / settings.base_models[seed % settings.base_models.size()];
}

BuiltInTask ReadTask(const std::string& where, ordered_json json) {
  std::vector<BuiltInTask> tasks = BuiltInTasks();
  std::string name = tasks.front().name;
  if (json.is_object() && json.contains("name")) {
    SWARR_CHECK(json["name"].is_string(), where, ".name is ", json["name"].dump(), "; it is the name of a task");
    name = json["name"];
    json.erase("name");
  }
  if (name == kRowsTask) tasks = {RowsOf(where, json)};
  const auto found = std::ranges::find(tasks, name, &BuiltInTask::name);
  if (found == tasks.end()) {
    std::vector<std::string> names;
    for (const BuiltInTask& task : tasks) names.push_back(task.name);
    names.emplace_back(kRowsTask);
    throw Error(Concat(where, ".name is '", name, "'; use ", Listed(names)));
  }
  std::vector<Field> fields;
  for (const TaskParameter& p : found->parameters) {
    std::visit([&](auto* value) { fields.emplace_back(p.Field(), *value); }, p.value);
  }
  ReadFields(where, json, fields);
  try {
    found->make(Split::kEval, 0);
  } catch (const UsageError& e) {
    throw Error(Concat(where, ": ", e.what()));
  }
  return std::move(*found);
}

StudySettings ReadStudySettings(const std::filesystem::path& data_dir, const std::string& preset) {
  const std::filesystem::path presets = data_dir / "presets", file = presets / (preset + ".json");
  if (!std::filesystem::exists(file)) {
    throw UsageError(Concat("there is no preset '", preset, "' in ", presets.string(), "; it has ", NamesOf(presets)));
  }
  const std::string path = file.string();
  StudySettings s;
  s.json = ParseJson<ordered_json>(ReadFile(file), path);
  ordered_json base_model, task, attention, evaluation, longer, cost, sft, rl, arms, ways;
  std::string dtype = Name(s.dtype);
  ReadFields(
      path, s.json,
      {Field("base_model", base_model), Field("task", task), Field("attention", attention),
       Field("evaluation", evaluation), Field("cost", cost), Field("sft", sft), Field("rl", rl), Field("arms", arms)},
      {Field("seeds", s.seeds), Field("dtype", dtype), Field("completion_limit", s.completion_limit),
       Field("ways", ways)});
  s.base_models = BaseModelsOf(path, base_model);
  SWARR_CHECK(s.seeds >= 1 && s.seeds <= 1000, path, ": seeds is ", s.seeds, "; it must be from 1 to 1000");
  SWARR_CHECK(dtype == Name(DType::kF32) || dtype == Name(DType::kBF16), path, ": dtype is '", dtype,
              "'; use f32 or bf16");
  s.dtype = ParseName<DType>("dtype", dtype);
  s.task = ReadTask(path + ": task", task);
  ReadFields(path + ": attention", attention, {Field("window", s.attention.window), Field("sinks", s.attention.sinks)});
  SWARR_CHECK(s.attention.window >= 1, path, ": attention.window is ", s.attention.window,
              "; the study needs a window of at least 1 token");
  ReadFields(path + ": evaluation", evaluation, {Field("problems", s.evaluation_problems)}, {Field("longer", longer)});
  ReadFields(path + ": cost", cost, {Field("longest", s.longest_cost)});
  constexpr int kLeastLongest = 64;  // a 64th of it is a token
  SWARR_CHECK(s.longest_cost >= kLeastLongest && s.longest_cost <= kMostPositions, path, ": cost.longest is ",
              s.longest_cost, "; it must be from ", kLeastLongest, " to ", kMostPositions);
  CheckProblems(path + ": evaluation", s.evaluation_problems, s.task, Split::kEval);
  if (!longer.is_null()) {
    ReadLonger(path + ": evaluation.longer", longer, s);
    CheckProblems(path + ": evaluation.longer", s.evaluation_problems, *s.longer, Split::kEval);
  }
  ReadSftStage(path + ": sft", sft, s.sft, s.sft_optimizer);
  for (const char* field : {"objective", "scale_rewards", "normalizer", "epsilon"}) {
    SWARR_CHECK(!rl.is_object() || rl.contains(field), path, ": rl has no field '", field, "'");
  }
  ReadRlStage(path + ": rl", rl, s.CompletionLimit(*s.task.make(Split::kRl, 0)), s.rl, s.rl_optimizer);
  s.arms = ReadArms(path, arms, s);
  for (const ArmPlan& arm : s.arms) {
    CheckProblems(Concat(path, ": arms: sample_problems of '", arm.name, "'"), arm.sample_problems, s.task, Split::kRl);
  }
  if (!ways.is_null()) s.looks = ReadWays(path, ways, s.arms);
  return s;
}

}  // namespace swarr
