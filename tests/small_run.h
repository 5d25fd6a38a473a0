// SPDX-License-Identifier: Apache-2.0
// A small training run, for the tests of what a run does with its directory.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "resume_checks.h"
#include "train/sft.h"

namespace swarr {

inline TableTask SmallTask() { return TableTask({{"a?", "b", "b"}, {"b?", "cc", "c"}, {"abc?", "d", "d"}}); }

inline void Train(Trainee& t, const RunOptions& run_options, std::int64_t steps = 5, double lr = 1e-3) {
  SftOptions options;
  options.steps = steps;
  options.batch_size = 4;
  const nlohmann::ordered_json config = {{"max-steps", steps}, {"seed", 3}, {"lr", lr}};
  TrainingRun run(run_options, config, t.model, t.optimizer, t.tokenizer);
  RunSft(t.ctx, t.model, t.tokenizer, SmallTask(), nullptr, options, t.optimizer, run);
  run.Finish();
}

struct Small : Trainee {
  explicit Small(double lr = 1e-3)
      : Trainee(TextConfig(), DType::kF32, [&] {
          OptimizerOptions options;
          options.lr = lr;
          return options;
        }()) {}
};

inline RunOptions Saving(const std::filesystem::path& dir, std::int64_t save_every = 2) {
  RunOptions options = In(dir);
  options.save_every = save_every;
  return options;
}

inline RunOptions Resuming(const std::filesystem::path& dir, const std::string& from = "auto") {
  RunOptions options = Saving(dir);
  options.resume = from;
  return options;
}

inline std::vector<std::string> CheckpointNames(const std::filesystem::path& dir) {
  std::vector<std::string> names;
  for (const std::filesystem::path& path : CheckpointsOf(dir)) names.push_back(path.filename().string());
  return names;
}

// Every file of a directory with its content.
inline std::map<std::string, std::string> Contents(const std::filesystem::path& dir) {
  std::map<std::string, std::string> files;
  for (const auto& e : std::filesystem::recursive_directory_iterator(dir)) {
    if (e.is_regular_file()) files[std::filesystem::relative(e.path(), dir).string()] = ReadFile(e.path());
  }
  return files;
}

}  // namespace swarr
