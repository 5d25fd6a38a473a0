// SPDX-License-Identifier: Apache-2.0
#include "dist/thread_ranks.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "tensor/transfer.h"

namespace swarr {
namespace {

// Where the ranks meet. What a rank shows there stays until all have met again.
class Meeting {
 public:
  explicit Meeting(int ranks) : sends(static_cast<std::size_t>(ranks)), texts(sends.size()) {}

  // Waits until all ranks are here.
  void Meet() {
    std::unique_lock lock(mutex_);
    const std::int64_t round = round_;
    if (++here_ == sends.size()) {
      here_ = 0;
      ++round_;
      all_here_.notify_all();
    }
    all_here_.wait(lock, [&] { return round_ != round || lost_; });
    if (round_ == round) throw RankLost("another rank has ended");
  }

  // The caller's rank has ended by the exception that is being handled.
  void Leave() {
    const std::lock_guard lock(mutex_);
    if (!first_error) first_error = std::current_exception();
    lost_ = true;
    all_here_.notify_all();
  }

  std::vector<std::span<const Tensor>> sends;
  std::vector<std::string> texts;
  std::exception_ptr first_error;

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  std::size_t here_ = 0;
  std::int64_t round_ = 0;
  bool lost_ = false;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(Meeting& meeting, int rank) : meeting_(meeting), rank_(static_cast<std::size_t>(rank)) {}

  int rank() const override { return static_cast<int>(rank_); }
  int size() const override { return static_cast<int>(meeting_.sends.size()); }

  void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) override {
    Wait(ctx);
    meeting_.sends[rank_] = send;
    meeting_.Meet();
    for (std::size_t r = 0; r < receive.size(); ++r) {
      if (receive[r].empty() || receive[r].size() == 0) continue;
      Copy(ctx, receive[r], meeting_.sends[r][rank_]);  // throws if the sides differ
    }
    Wait(ctx);
    meeting_.Meet();
  }

  std::vector<std::string> Gather(const std::string& own) override {
    meeting_.texts[rank_] = own;
    meeting_.Meet();
    std::vector<std::string> all = meeting_.texts;
    meeting_.Meet();
    return all;
  }

 private:
  Meeting& meeting_;
  std::size_t rank_;
};

}  // namespace

void RunThreadRanks(int ranks, const std::function<void(Communicator&)>& f) {
  Meeting meeting(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        ThreadCommunicator communicator(meeting, r);
        f(communicator);
      } catch (...) {
        meeting.Leave();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (meeting.first_error) std::rethrow_exception(meeting.first_error);
}

}  // namespace swarr
