// SPDX-License-Identifier: Apache-2.0
// What a loop of training, SFT or RL, asks and tells between its steps: where it is, whether it is to stop, what a step
// was like. Behind it there is a run in memory, as here, or one in a directory (train/run.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/check.h"
#include "train/watch.h"

namespace swarr {

// Thrown when the user has asked to stop; what was to be saved is saved.
class Interrupted : public Error {
 public:
  using Error::Error;
};

class TrainingSteps {
 public:
  using Record = nlohmann::ordered_json;

  TrainingSteps() = default;
  TrainingSteps(const TrainingSteps&) = delete;
  TrainingSteps& operator=(const TrainingSteps&) = delete;
  virtual ~TrainingSteps() = default;

  virtual std::int64_t step() const = 0;        // steps completed
  virtual std::int64_t num_tokens() const = 0;  // tokens trained on so far
  // What has seen the steps completed.
  virtual Watch MakeWatch() const = 0;

  // Ends a step of so many tokens. Every step has one record, the metrics of it; the numbers above are put first.
  virtual void EndStep(std::int64_t tokens, const Record& record) = 0;
  // Keeps what step `step`, from 1, has sampled: JSON Lines.
  virtual void KeepCompletions(std::int64_t step, const std::string& lines) = 0;

  // Whether the user asks to stop. Threads that compute a step may ask too.
  virtual bool AskedToStop() const = 0;
  // If so, throws Interrupted. To be called between steps, and in a step before it changes the weights: what was
  // computed of that step is lost.
  virtual void StopIfAsked() = 0;
  // If the value is not finite, throws. To be called before the weights are updated.
  virtual void CheckFinite(const char* what, double value) = 0;

 protected:
  Record Numbered(const Record& record) const {
    Record line = {{"step", step()}, {"num_tokens", num_tokens()}};
    line.update(record);
    return line;
  }
};

// Steps that no file tells of: they begin at 0, and `on_step` sees the record of each.
class StepsInMemory : public TrainingSteps {
 public:
  explicit StepsInMemory(std::function<void(const Record&)> on_step = {}, std::function<bool()> interrupted = {})
      : on_step_(std::move(on_step)), interrupted_(std::move(interrupted)) {}

  std::int64_t step() const override { return step_; }
  std::int64_t num_tokens() const override { return num_tokens_; }
  Watch MakeWatch() const override { return {}; }

  void EndStep(std::int64_t tokens, const Record& record) override {
    ++step_;
    num_tokens_ += tokens;
    if (on_step_) on_step_(Numbered(record));
    StopIfAsked();
  }
  void KeepCompletions(std::int64_t, const std::string&) override {}

  bool AskedToStop() const override { return interrupted_ && interrupted_(); }
  void StopIfAsked() override {
    if (AskedToStop()) throw Interrupted(Concat("interrupted after step ", step_));
  }
  void CheckFinite(const char* what, double value) override {
    SWARR_CHECK(std::isfinite(value), "the ", what, " is not finite at step ", step_ + 1,
                "; try a smaller learning rate");
  }

 private:
  std::function<void(const Record&)> on_step_;
  std::function<bool()> interrupted_;
  std::int64_t step_ = 0, num_tokens_ = 0;
};

}  // namespace swarr
