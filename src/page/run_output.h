// SPDX-License-Identifier: Apache-2.0
// What pretrain, sft, rl and eval have written into a directory, as a page shows it. Nothing is locked and nothing is
// written: a run may be going on, and what it has not finished writing is passed over.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "page/settings.h"
#include "page/trace_picture.h"
#include "page/training_curves.h"

namespace swarr {

inline constexpr const char* kEvaluationFile = "evaluation.json";   // what eval measured, with --output-dir
inline constexpr const char* kEvaluatedFile = "completions.jsonl";  // and on which completions

inline constexpr std::size_t kRecentSteps = 10;  // whose rows are kept

// A completion with its reward.
struct ShownCompletion {
  std::string prompt{}, completion{};
  double reward = 0;
  bool finished = false;
};

struct RunOutput {
  std::filesystem::path directory{};
  std::string name{};      // of all that are shown together no two have the same
  std::string command{};   // pretrain, sft, rl or eval
  Settings settings{};     // the options of the command
  Settings environment{};  // by what it was made; may be empty
  std::int64_t steps = 0;  // that the run is to take
  // Of what metrics.jsonl has so far, its last rows, and when that was written.
  std::vector<TrainingCurve> training{};
  std::deque<nlohmann::json> recent{};
  double seconds = 0;                                            // of all steps
  std::vector<std::pair<std::int64_t, std::string>> warnings{};  // with their steps
  std::string written{};
  bool complete = false;                       // the run's model is there
  nlohmann::ordered_json evaluation{};         // of eval
  std::vector<ShownCompletion> completions{};  // some: of eval, or of the last step of RL that has all of its own
  bool knows_sight = false;                    // whether `sight` is known: it is that of the model
  Sight sight{};

  std::int64_t step() const { return recent.empty() ? 0 : recent.back().value("step", std::int64_t{0}); }
};

// Of the metric in the recent rows that have it; undefined (NaN) if none has.
double RecentMean(const RunOutput& output, const std::string& metric);

// The directories that are shown for this one: those of its runs if it is a study's, else itself.
std::vector<std::filesystem::path> OutputsIn(const std::filesystem::path& directory);

// Throws Error, naming the directory, if it is no output of these commands or lacks resolved_config.json.
RunOutput ReadOutput(const std::filesystem::path& directory);

// The same for several, with names: the last part of each path, and as much of what is before it as tells it from the
// others.
std::vector<RunOutput> ReadOutputs(const std::vector<std::filesystem::path>& directories);

}  // namespace swarr
