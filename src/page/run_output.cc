// SPDX-License-Identifier: Apache-2.0
#include "page/run_output.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>

#include "base/check.h"
#include "base/files.h"
#include "base/machine.h"
#include "model/hf_config.h"
#include "task/ceiling.h"
#include "task/registry.h"
#include "train/run_files.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::size_t kMostCompletions = 3;  // shown of one output
constexpr std::size_t kMostFiles = 100;      // of completions in which restatements are counted

std::string TimeOf(const fs::path& file) {
  const auto system = std::chrono::file_clock::to_sys(fs::last_write_time(file));
  return UtcText(
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(system)));
}

void ReadMetrics(RunOutput& output) {
  const fs::path file = output.directory / kMetricsFile;
  if (!fs::exists(file)) return;  // no step has ended yet
  output.training = ReadTraining(file);
  output.written = TimeOf(file);
  ForEachWholeJsonLine(file, [&](int, const nlohmann::json& row) {
    output.recent.push_back(row);
    if (output.recent.size() > kRecentSteps) output.recent.pop_front();
    output.seconds += row.value("step_time", 0.0);
    for (const auto& text : row.value("warnings", nlohmann::json::array())) {
      output.warnings.emplace_back(row.value("step", std::int64_t{0}), text.get<std::string>());
    }
  });
}

// The first completion of each of the first prompts.
std::vector<ShownCompletion> FirstCompletions(const fs::path& file) {
  std::vector<ShownCompletion> shown;
  if (!fs::exists(file)) return shown;
  ForEachWholeJsonLine(file, [&](int, const nlohmann::json& row) {
    const auto prompt = row.value("prompt", std::string());
    if (shown.size() == kMostCompletions) return;
    if (std::ranges::find(shown, prompt, &ShownCompletion::prompt) != shown.end()) return;
    shown.push_back({.prompt = prompt,
                     .completion = row.value("completion", std::string()),
                     .reward = row.value("reward", 0.0),
                     .finished = row.value("finished", false)});
  });
  return shown;
}

// Restatements by steps of the solutions in a file of completions; nothing if they are not the chain task's.
std::optional<double> RestatementsIn(const fs::path& file) {
  double restatements = 0, steps = 0;
  ForEachWholeJsonLine(file, [&](int, const nlohmann::json& row) {
    const auto problem = ChainProblemIn(row.value("prompt", std::string()));
    if (!problem) return;
    const TraceMeasures trace = MeasureTrace(*problem, row.value("completion", std::string()));
    restatements += trace.restatements;
    steps += trace.steps;
  });
  return steps > 0 ? std::optional(restatements / steps) : std::nullopt;
}

// Which metrics.jsonl has not. Of many files some are read, evenly.
void ReadCompletions(RunOutput& output) {
  std::map<std::int64_t, fs::path> files;
  for (std::int64_t step = 1; step <= output.step(); ++step) {
    const fs::path file = CompletionsPath(output.directory, step);
    if (fs::exists(file)) files[step] = file;
  }
  if (files.empty()) return;
  output.completions = FirstCompletions(files.rbegin()->second);
  TrainingCurve curve{.metric = kRestatementMetric};
  const std::size_t stride = (files.size() + kMostFiles - 1) / kMostFiles;
  std::size_t place = 0;
  for (const auto& [step, file] : files) {
    if (place++ % stride != 0) continue;
    if (const auto rate = RestatementsIn(file)) curve.points.push_back({static_cast<double>(step), *rate});
  }
  if (!curve.points.empty()) output.training.push_back(std::move(curve));
}

// The attention of the model that the output is of: of the one that training has written, or of the one that it began
// with, which has the same. The latter's path may no longer lead there.
void ReadSight(RunOutput& output, const ordered_json& config) {
  for (const fs::path& model : {output.directory, fs::path(config.value("model", ""))}) {
    try {
      if (model.empty() || !fs::exists(model / "config.json")) continue;
      const ModelConfig of_model = ReadModelConfig(model);
      output.sight.window = of_model.smallest_window();
      const bool all_windowed = std::ranges::none_of(of_model.attention, [](const auto& a) { return a.window == 0; });
      output.sight.reach = all_windowed ? ReachOf(of_model.layers, output.sight.window) : of_model.max_positions;
      output.knows_sight = true;
      return;
    } catch (const Error&) {  // another program's; traces are shown as texts
    }
  }
}

ordered_json ReadObject(const fs::path& file) {
  auto json = ParseJson<ordered_json>(ReadFile(file), file.string());
  SWARR_CHECK(json.is_object(), file.string(), " holds no JSON object");
  return json;
}

// A study's runs have their settings under the names that its file has. Here they get those of the options that do the
// same, so that they stand beside those of other runs.
ordered_json WithNamesOfOptions(const ordered_json& of_study) {
  ordered_json named = ordered_json::object();
  for (const auto& [name, value] : of_study.items()) {
    if (name == "task") continue;
    std::string option = name == "steps" ? "max-steps" : name;
    std::ranges::replace(option, '_', '-');
    named[option] = value;
  }
  ordered_json task = of_study.value("task", ordered_json::object());
  const std::vector<BuiltInTask> tasks = BuiltInTasks();
  const auto found = std::ranges::find(tasks, task.value("name", tasks.front().name), &BuiltInTask::name);
  if (found == tasks.end()) return named;
  named["task"] = found->name;
  for (const TaskParameter& p : found->parameters) {
    if (task.contains(p.Field())) named[p.name] = task[p.Field()];
  }
  return named;
}

// An interval has two bounds, in order, or none where it would have no meaning.
bool IsInterval(const ordered_json& json) {
  if (!json.is_array() || json.size() != 2) return false;
  if (json[0].is_null() && json[1].is_null()) return true;
  return json[0].is_number() && json[1].is_number() && json[0].get<double>() <= json[1].get<double>();
}

// What eval measured: counts, means with intervals, and counts by name. Refuses what eval can't have written.
ordered_json ReadEvaluation(const fs::path& file) {
  ordered_json json = ReadObject(file);
  const auto check = [&](const std::string& name, const ordered_json& value, bool holds, const char* must) {
    SWARR_CHECK(holds, file.string(), ": ", name, " is ", value.dump(), "; it must be ", must,
                "; the file was not written by eval");
  };
  for (const char* name : {"problems", "samples"}) {
    const ordered_json count = json.value(name, ordered_json());
    check(name, count, count.is_number_integer() && count >= 1, "a count");
  }
  const ordered_json accuracy = json.value("accuracy", ordered_json());
  check("accuracy", accuracy, accuracy.is_number() && accuracy >= 0 && accuracy <= 1, "from 0 to 1");
  for (const auto& [name, value] : json.items()) {
    if (name.ends_with("_ci95")) {
      check(name, value, IsInterval(value), "an interval");
    } else {
      check(name, value, value.is_number() || value.is_null() || value.is_object(), "a number");
    }
  }
  return json;
}

// The command that wrote the directory. A study's runs have their stage instead.
std::string CommandOf(const fs::path& directory, const ordered_json& config) {
  std::string command = config.value("command", config.value("stage", ""));
  constexpr std::array kCommands = {"pretrain", "sft", "rl", "eval"};
  SWARR_CHECK(std::ranges::find(kCommands, command) != kCommands.end(), directory.string(), " is the output of ",
              command.empty() ? "an unknown command" : command, ", not of pretrain, sft, rl or eval");
  return command;
}

}  // namespace

double RecentMean(const RunOutput& output, const std::string& metric) {
  double sum = 0, rows = 0;
  for (const nlohmann::json& row : output.recent) {
    const auto value = row.find(metric);
    if (value == row.end() || !value->is_number()) continue;
    sum += value->get<double>();
    ++rows;
  }
  return sum / rows;
}

std::vector<fs::path> OutputsIn(const fs::path& directory) {
  if (!fs::exists(directory / "settings.json") || !fs::is_directory(directory / "runs")) return {directory};
  std::vector<fs::path> runs;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory / "runs")) {
    if (fs::exists(entry.path() / kConfigFile)) runs.push_back(entry.path());
  }
  SWARR_CHECK(!runs.empty(), directory.string(), " is a study's and has no run yet; try again when one has begun");
  std::ranges::sort(runs);
  return runs;
}

namespace {

// What may be meant by a directory that is no output itself but holds some.
std::string Meant(const fs::path& directory) {
  const auto is_output = [](const fs::directory_entry& e) { return fs::exists(e.path() / kConfigFile); };
  const auto held = std::ranges::count_if(fs::directory_iterator(directory), fs::directory_iterator(), is_output);
  return held > 0 ? Concat("; ", directory.string(), "/* has ", held) : "";
}

RunOutput ReadWhole(const fs::path& directory) {
  SWARR_CHECK(fs::is_directory(directory), directory.string(), " is no directory; name the output of a command");
  const fs::path config_file = directory / kConfigFile;
  SWARR_CHECK(
      fs::exists(config_file), directory.string(), " has no ", kConfigFile,
      ", which says what was run; name a directory that pretrain, sft, rl or eval has written with --output-dir",
      Meant(directory));
  ordered_json config = ReadObject(config_file);
  RunOutput output{.directory = directory, .command = CommandOf(directory, config)};
  ReadSight(output, config);
  if (config.contains("environment")) Flatten(config["environment"], "", output.environment);
  for (const char* of_page : {"command", "stage", "environment"}) config.erase(of_page);
  if (config.contains("study")) config = WithNamesOfOptions(config);
  Flatten(config, "", output.settings);
  if (output.command == "eval") {
    const fs::path results = directory / kEvaluationFile;
    SWARR_CHECK(fs::exists(results), directory.string(), " has no ", kEvaluationFile, "; evaluate again");
    output.evaluation = ReadEvaluation(results);
    output.written = TimeOf(results);
    output.complete = true;
    output.completions = FirstCompletions(directory / kEvaluatedFile);
    return output;
  }
  output.steps = config.value("max-steps", std::int64_t{0});
  ReadMetrics(output);
  if (output.command == "rl") ReadCompletions(output);
  output.complete = output.steps > 0 && output.step() >= output.steps && fs::exists(directory / "config.json");
  return output;
}

}  // namespace

RunOutput ReadOutput(const fs::path& directory) {
  try {
    return ReadWhole(directory);
  } catch (const nlohmann::json::exception&) {
    throw Error(Concat(directory.string(), " has a field of the wrong type in ", kConfigFile, ", ", kMetricsFile,
                       " or ", kEvaluationFile, "; they were not written by ", "pretrain, sft, rl or eval"));
  }
}

std::vector<RunOutput> ReadOutputs(const std::vector<fs::path>& directories) {
  std::vector<RunOutput> outputs;
  std::vector<fs::path> rest;  // of the paths, before the names
  std::set<fs::path> seen;
  for (const fs::path& directory : directories) {
    RunOutput output = ReadOutput(directory);
    const fs::path path = fs::canonical(directory);
    if (!seen.insert(path).second) continue;
    output.name = path.filename().string();
    outputs.push_back(std::move(output));
    rest.push_back(path.parent_path());
  }
  // Names grow by a part of the path wherever some are the same.
  const auto times = [&](const std::string& name) { return std::ranges::count(outputs, name, &RunOutput::name); };
  for (bool grown = true; grown;) {
    grown = false;
    std::set<std::string> doubled;
    for (const RunOutput& output : outputs) {
      if (times(output.name) > 1) doubled.insert(output.name);
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!doubled.contains(outputs[i].name) || !rest[i].has_filename()) continue;
      outputs[i].name = rest[i].filename().string() + "/" + outputs[i].name;
      rest[i] = rest[i].parent_path();
      grown = true;
    }
  }
  return outputs;
}

}  // namespace swarr
