// SPDX-License-Identifier: Apache-2.0
#include "study/records/inputs.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "study/rows.h"
#include "study/study.h"
#include "train/checkpoint.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

// The files of problems that the arms read; none if the task is built in.
std::map<fs::path, Split> RowsFilesOf(const StudySettings& settings) {
  if (settings.task.name != kRowsTask) return {};
  std::map<fs::path, Split> files;
  const auto add = [&](const nlohmann::ordered_json& task, Split split) {
    files.emplace(RowsFile(task["directory"].get<std::string>(), split, task["carry"].get<double>()), split);
  };
  for (const Split split : {Split::kRl, Split::kEval}) add(settings.json["task"], split);
  for (const ArmPlan& arm : settings.arms) {
    if (arm.training == ArmTraining::kSft && arm.samples_of.empty()) add(arm.task, Split::kSft);
  }
  return files;
}

}  // namespace

std::vector<StudyInput> InputsOf(const StudyOptions& options, const StudySettings& settings) {
  std::vector<StudyInput> inputs;
  for (std::size_t i = 0; i < settings.base_models.size(); ++i) {
    const fs::path path = BaseModelOf(options, settings, i);
    inputs.push_back({Concat("base model ", path.filename().string()), path, HashOfInput(path)});
  }
  for (const auto& [path, split] : RowsFilesOf(settings)) {
    inputs.push_back({path.filename().string(), path, HashOfInput(path)});
  }
  return inputs;
}

void CheckProblemFiles(const StudySettings& settings, const Tokenizer& tokenizer, int context) {
  const int limit = settings.CompletionLimit(*settings.task.make(Split::kEval, 0));
  for (const auto& [path, split] : RowsFilesOf(settings)) {
    CheckRows(path, split, {.tokenizer = tokenizer, .context = context, .completion_limit = limit});
  }
}

nlohmann::ordered_json HashesOf(const std::vector<StudyInput>& inputs) {
  nlohmann::ordered_json hashes = nlohmann::ordered_json::object();
  for (const StudyInput& input : inputs) hashes[input.name] = input.hash;
  return hashes;
}

std::string WhyOtherInputs(const fs::path& where, const nlohmann::ordered_json& recorded,
                           const std::vector<StudyInput>& inputs) {
  const auto other = std::ranges::find_if(inputs, [&](const StudyInput& input) {
    return recorded.contains(input.name) && recorded[input.name] != input.hash;
  });
  if (other == inputs.end()) return "";
  return Concat(where.string(), " was written with another ", other->path.string(), " (hash ",
                recorded[other->name].dump(), ", not \"", other->hash,
                "\"); put that one back, choose another --output-dir, or make the study again with --overwrite");
}

}  // namespace swarr
