// SPDX-License-Identifier: Apache-2.0
// Steps of several ranks. Rank 0 has the run with its directory; the others follow it. Whether to stop is agreed on at
// the end of each step, where any rank may ask for it, and nowhere else. Alone, a rank has its run and needs none of
// this.
//
// All that rank 0 asks of the others between steps is an order, which they get by Ranks::GatherAll:
//   kCollect      take part in Optimizer::Collect: rank 0 saves, or looks for what is not finite
//   kGoOn, kStop  the next step, or no more
//   kFail         no more, for a reason that rank 0 tells next
//
// Rank 0 adds to each step's metrics what Communicator::TakeTimes tells of it: exchange_time and gather_time, seconds.
#pragma once

#include <functional>

#include "train/optimizer.h"
#include "train/training_steps.h"

namespace swarr {

enum class RankOrder : std::uint8_t { kCollect, kGoOn, kStop, kFail };

// Rank 0's. TrainingRun is to have `saving` and `interrupted` of these steps among its options.
class LeadingSteps : public TrainingSteps {
 public:
  // `asked`: whether this rank's user asks to stop.
  LeadingSteps(const Context& ctx, Optimizer& optimizer, std::function<bool()> asked);
  // The run, whose state comes to all ranks.
  void Lead(TrainingSteps& run);
  // After the last step, when the run has finished.
  void End() const;

  bool interrupted() const { return stop_; }
  void Saving(bool begins);

  std::int64_t step() const override { return run_->step(); }
  std::int64_t num_tokens() const override { return run_->num_tokens(); }
  Watch MakeWatch() const override { return run_->MakeWatch(); }
  void EndStep(std::int64_t tokens, const Record& record) override;
  void KeepCompletions(std::int64_t step, const std::string& lines) override { run_->KeepCompletions(step, lines); }
  bool AskedToStop() const override { return false; }
  void StopIfAsked() override {}
  void CheckFinite(const char* what, double value) override;

 private:
  void Order(RankOrder order) const;

  const Context& ctx_;
  Optimizer& optimizer_;
  std::function<bool()> asked_;
  TrainingSteps* run_ = nullptr;
  bool stop_ = false;
};

// Every other rank's.
class FollowingSteps : public TrainingSteps {
 public:
  // `saving` is told when rank 0 begins to save (true), and when it goes on.
  FollowingSteps(const Context& ctx, Optimizer& optimizer, std::function<bool()> asked,
                 std::function<void(bool)> saving = {});
  // Follows rank 0 until it orders no more steps.
  void FollowToEnd() { Follow(RankOrder::kStop); }

  std::int64_t step() const override { return step_; }
  std::int64_t num_tokens() const override { return num_tokens_; }
  Watch MakeWatch() const override { return {}; }
  void EndStep(std::int64_t tokens, const Record& record) override;
  void KeepCompletions(std::int64_t, const std::string&) override {}
  bool AskedToStop() const override { return false; }
  void StopIfAsked() override {}
  void CheckFinite(const char* what, double value) override;

 private:
  void Follow(RankOrder until);

  const Context& ctx_;
  Optimizer& optimizer_;
  std::function<bool()> asked_;
  std::function<void(bool)> saving_;
  std::int64_t step_ = 0, num_tokens_ = 0;
};

}  // namespace swarr
