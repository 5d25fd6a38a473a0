// SPDX-License-Identifier: Apache-2.0
// Progress of a training run on stderr: on a terminal one line with a bar that is written over, otherwise a plain line
// every few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace swarr {

class Progress {
 public:
  // `steps`: the last step of the run.
  explicit Progress(std::int64_t steps);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A row of metrics.jsonl, as TrainingRun writes it.
  void Show(const nlohmann::ordered_json& row);

 private:
  using Clock = std::chrono::steady_clock;
  std::int64_t steps_;
  bool terminal_;
  bool line_open_ = false;
  std::int64_t first_step_ = -1;  // the first that was shown: after a resume not 1
  Clock::time_point start_ = Clock::now(), last_;
};

}  // namespace swarr
