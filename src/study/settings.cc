// SPDX-License-Identifier: Apache-2.0
// Reads data/presets/<name>.json.
#include <set>

#include "base/files.h"
#include "model/limits.h"
#include "study/fields.h"
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

void ReadLonger(const std::string& where, const ordered_json& json, StudySettings& s) {
  ChainOptions& longer = s.longer.emplace(s.task);
  ReadFields(where, json, {Field("n_min", longer.n_min), Field("n_max", longer.n_max)});
  SWARR_CHECK(longer.n_min > s.task.n_max && longer.n_max >= longer.n_min && longer.n_max <= kMaxChainSteps, where,
              " has problems of ", longer.n_min, " to ", longer.n_max, " steps; they must be longer than ",
              s.task.n_max, " steps, which training has, and at most ", kMaxChainSteps);
}

}  // namespace

std::filesystem::path BaseModelOf(const StudyOptions& options, const StudySettings& settings, std::uint64_t seed) {
  return options.data_dir / settings.base_models[seed % settings.base_models.size()];
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
  ReadFields(
      path, s.json,
      {Field("base_model", base_model), Field("task", task), Field("attention", attention),
       Field("evaluation", evaluation), Field("cost", cost), Field("sft", sft), Field("rl", rl), Field("arms", arms)},
      {Field("seeds", s.seeds), Field("ways", ways)});
  s.base_models = BaseModelsOf(path, base_model);
  SWARR_CHECK(s.seeds >= 1 && s.seeds <= 1000, path, ": seeds is ", s.seeds, "; it must be from 1 to 1000");
  ReadFields(path + ": task", task,
             {Field("n_min", s.task.n_min), Field("n_max", s.task.n_max),
              Field("restate_probability", s.task.restate_probability)});
  ReadFields(path + ": attention", attention, {Field("window", s.attention.window), Field("sinks", s.attention.sinks)});
  SWARR_CHECK(s.attention.window >= 1, path, ": attention.window is ", s.attention.window,
              "; the study needs a window of at least 1 token");
  ReadFields(path + ": evaluation", evaluation, {Field("problems", s.evaluation_problems)}, {Field("longer", longer)});
  ReadFields(path + ": cost", cost, {Field("longest", s.longest_cost)});
  constexpr int kLeastLongest = 64;  // a 64th of it is a token
  SWARR_CHECK(s.longest_cost >= kLeastLongest && s.longest_cost <= kMostPositions, path, ": cost.longest is ",
              s.longest_cost, "; it must be from ", kLeastLongest, " to ", kMostPositions);
  SWARR_CHECK(s.task.n_max >= 1 && s.task.n_max <= kMaxChainSteps, path, ": task.n_max is ", s.task.n_max,
              "; it must be from 1 to ", kMaxChainSteps);
  if (!longer.is_null()) ReadLonger(path + ": evaluation.longer", longer, s);
  ReadSftStage(path + ": sft", sft, s.sft, s.sft_optimizer);
  for (const char* field : {"objective", "scale_rewards", "normalizer", "epsilon"}) {
    SWARR_CHECK(!rl.is_object() || rl.contains(field), path, ": rl has no field '", field, "'");
  }
  ReadRlStage(path + ": rl", rl, ChainTokenLimit(s.task.n_max), s.rl, s.rl_optimizer);
  s.arms = ReadArms(path, arms, s);
  if (!ways.is_null()) s.looks = ReadWays(path, ways, s.arms);
  return s;
}

}  // namespace swarr
