// SPDX-License-Identifier: Apache-2.0
#include "train/rank_steps.h"

#include <algorithm>

namespace swarr {
namespace {

// Whether any rank asks to stop.
bool AnyAsks(const Ranks& ranks, const std::function<bool()>& asked) {
  const std::vector<char> all = ranks.GatherAll(std::vector<char>{static_cast<char>(asked && asked())});
  return std::ranges::find(all, 1) != all.end();
}

// Rank 0's text. What the others give must be empty.
std::string TextOfFirst(const Ranks& ranks, const std::string& text) {
  const std::vector<char> all = ranks.GatherAll(std::vector<char>(text.begin(), text.end()));
  return {all.begin(), all.end()};
}

// A step's record with what the ranks' talk took of its time.
TrainingSteps::Record WithTimes(TrainingSteps::Record record, const Ranks& ranks) {
  const Communicator::Times times = ranks.TakeTimes();
  record["exchange_time"] = times.exchange;
  record["gather_time"] = times.gather;
  return record;
}

}  // namespace

LeadingSteps::LeadingSteps(const Context& ctx, Optimizer& optimizer, std::function<bool()> asked)
    : ctx_(ctx), optimizer_(optimizer), asked_(std::move(asked)) {
  optimizer_.MakeRoom();  // for a resume
}

void LeadingSteps::Order(RankOrder order) const { optimizer_.ranks().GatherAll(std::vector{order}); }

void LeadingSteps::End() const {
  Order(RankOrder::kStop);
  optimizer_.ranks().End();
}

void LeadingSteps::Lead(TrainingSteps& run) {
  run_ = &run;
  optimizer_.Distribute(ctx_);
  optimizer_.ranks().GatherAll(std::vector{step(), num_tokens()});
  optimizer_.ranks().TakeTimes();  // what the start took is no step's
}

void LeadingSteps::Saving(bool begins) {
  if (run_ == nullptr) return;  // a resume mends what a killed run left: nothing is trained yet
  if (!begins) return optimizer_.ReleaseCollected();
  Order(RankOrder::kCollect);
  optimizer_.Collect(ctx_);
}

void LeadingSteps::EndStep(std::int64_t tokens, const Record& record) {
  stop_ = AnyAsks(optimizer_.ranks(), asked_);
  try {
    run_->EndStep(tokens, WithTimes(record, optimizer_.ranks()));
  } catch (const Interrupted&) {
    End();
    throw;
  }
  Order(RankOrder::kGoOn);
}

void LeadingSteps::CheckFinite(const char* what, double value) {
  if (std::isfinite(value)) return run_->CheckFinite(what, value);
  Order(RankOrder::kCollect);
  optimizer_.Collect(ctx_);
  try {
    run_->CheckFinite(what, value);
  } catch (const Error& error) {
    Order(RankOrder::kFail);
    TextOfFirst(optimizer_.ranks(), error.what());
    optimizer_.ranks().End();
    throw;
  }
}

FollowingSteps::FollowingSteps(const Context& ctx, Optimizer& optimizer, std::function<bool()> asked,
                               std::function<void(bool)> saving)
    : ctx_(ctx), optimizer_(optimizer), asked_(std::move(asked)), saving_(std::move(saving)) {
  optimizer_.Distribute(ctx_);
  const std::vector<std::int64_t> of_first = optimizer_.ranks().GatherAll(std::vector<std::int64_t>{0, 0});
  step_ = of_first[0];
  num_tokens_ = of_first[1];
}

void FollowingSteps::Follow(RankOrder until) {
  for (;;) {
    const RankOrder order = optimizer_.ranks().GatherAll(std::vector{RankOrder::kGoOn})[0];
    if (saving_) saving_(order == RankOrder::kCollect);
    if (order == RankOrder::kCollect) optimizer_.Collect(ctx_);
    if (order == RankOrder::kStop) optimizer_.ranks().End();
    if (order == RankOrder::kFail) {
      const std::string why = TextOfFirst(optimizer_.ranks(), "");
      optimizer_.ranks().End();
      throw Error(why);
    }
    if (order == until) return;
    if (order == RankOrder::kStop) throw Interrupted(Concat("interrupted after step ", step_, "; rank 0 has saved it"));
  }
}

void FollowingSteps::EndStep(std::int64_t tokens, const Record&) {
  ++step_;
  num_tokens_ += tokens;
  AnyAsks(optimizer_.ranks(), asked_);
  Follow(RankOrder::kGoOn);
}

void FollowingSteps::CheckFinite(const char*, double value) {
  if (!std::isfinite(value)) Follow(RankOrder::kStop);  // rank 0 finds the same, and says where that began
}

}  // namespace swarr
