// SPDX-License-Identifier: Apache-2.0
#include "tensor/threads.h"

#include <pthread.h>
#include <strings.h>

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>

#include "base/check.h"

namespace swarr {
namespace {

// Where the part of a worker stands. Who changes kAsleep or kAwaited into something else wakes the one that sleeps.
enum class Stage : int {
  kWaiting,  // the worker has no part and spins
  kAsleep,   // the same, and it sleeps
  kOffered,  // the caller offers a part
  kTaken,    // the worker computes it
  kAwaited,  // the same, and the caller sleeps until it is done
  kStopped,  // the worker shall end
};

// Tells the processor that this is a loop that waits, so that it leaves room for its other thread.
void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether the stage became another than `stage` while we spun.
bool SpinWhile(const std::atomic<Stage>& present, Stage stage) {
  static const SpinLimit limit = ParseSpinLimit(std::getenv("OMP_WAIT_POLICY"), std::getenv("GOMP_SPINCOUNT"));
  constexpr std::int64_t kTurnsPerLookAtTheClock = 64;
  std::chrono::steady_clock::time_point begin;
  for (std::int64_t turn = 1; turn <= limit.turns; ++turn) {
    if (present.load(std::memory_order_acquire) != stage) return true;
    Pause();
    if (turn % kTurnsPerLookAtTheClock != 0) continue;
    const auto now = std::chrono::steady_clock::now();
    if (turn == kTurnsPerLookAtTheClock) begin = now;
    if (now - begin > limit.time) return false;
  }
  return false;
}

// Returns when the stage is neither `stage` nor its sleeping twin.
void Await(std::atomic<Stage>& present, Stage stage, Stage asleep) {
  if (SpinWhile(present, stage)) return;
  if (present.compare_exchange_strong(stage, asleep)) present.wait(asleep);
}

// What a part threw, or null.
std::exception_ptr Compute(PartFunction run, const void* f, int part) noexcept {
  try {
    run(f, part);
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

thread_local bool within_part = false;

// On cache lines of its own. What the caller writes before it offers a part, the worker reads after it has taken it.
struct alignas(128) Worker {
  std::atomic<Stage> stage = Stage::kWaiting;
  int part = 0;
  PartFunction run = nullptr;
  const void* f = nullptr;
  std::exception_ptr error;  // what the last part threw
  std::thread thread;

  void Become(Stage next) {
    const Stage before = stage.exchange(next);
    if (before == Stage::kAsleep || before == Stage::kAwaited) stage.notify_one();
  }

  // Whether the stage was `from`; then it is `to`.
  bool Change(Stage from, Stage to) { return stage.compare_exchange_strong(from, to); }

  // The life of the thread.
  void Work() {
    within_part = true;
    while (stage.load() != Stage::kStopped) {
      if (Change(Stage::kOffered, Stage::kTaken)) {
        error = Compute(run, f, part);
        Become(Stage::kWaiting);
      }
      Await(stage, Stage::kWaiting, Stage::kAsleep);
    }
  }
};

// The workers of one thread.
class Team {
 public:
  Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() {
    for (Worker& worker : workers_) {
      worker.Become(Stage::kStopped);
      worker.thread.join();
    }
  }

  void Run(int parts, PartFunction run, const void* f) {
    while (static_cast<int>(workers_.size()) < parts - 1) Start(parts);
    const auto end = workers_.begin() + (parts - 1);
    int part = 0;
    for (auto worker = workers_.begin(); worker != end; ++worker) {
      worker->part = ++part;
      worker->run = run;
      worker->f = f;
      worker->Become(Stage::kOffered);
    }
    within_part = true;
    std::exception_ptr error = Compute(run, f, 0);
    for (auto worker = workers_.begin(); worker != end; ++worker) {
      if (worker->Change(Stage::kOffered, Stage::kWaiting)) worker->error = Compute(run, f, worker->part);
    }
    within_part = false;
    for (auto worker = workers_.begin(); worker != end; ++worker) {
      Await(worker->stage, Stage::kTaken, Stage::kAwaited);
      if (!error) error = worker->error;
    }
    if (error) std::rethrow_exception(error);
  }

 private:
  void Start(int parts) {
    Worker& worker = workers_.emplace_back();
    try {
      worker.thread = std::thread([&worker] { worker.Work(); });
    } catch (const std::system_error& refusal) {
      workers_.pop_back();
      throw Error(Concat("the system starts no more than ", workers_.size() + 1, " of ", parts, " threads (",
                         refusal.what(), "); use fewer"));
    }
  }

  std::deque<Worker> workers_;  // which stay where they are
};

// Its thread's workers. A process after fork has a copy of the team but no worker, so it forgets the team.
thread_local std::unique_ptr<Team> team;

Team& ThisThreadsTeam() {
  static const int forgets = pthread_atfork(nullptr, nullptr, [] { static_cast<void>(team.release()); });
  SWARR_CHECK(forgets == 0, "can't ask the system to tell of a fork: there is no memory for it");
  if (!team) team = std::make_unique<Team>();
  return *team;
}

}  // namespace

SpinLimit ParseSpinLimit(const char* wait_policy, const char* spin_count) {
  constexpr SpinLimit kEndless = {.time = std::chrono::nanoseconds::max()};
  const std::string_view count = spin_count ? spin_count : "";
  if (count == "infinity" || count == "infinite") return kEndless;
  std::int64_t turns = 0;
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), turns);
  if (error == std::errc() && end == count.data() + count.size() && turns >= 0) {
    return {.turns = turns, .time = std::chrono::nanoseconds::max()};
  }
  if (wait_policy && strcasecmp(wait_policy, "passive") == 0) return {.turns = 0};
  if (wait_policy && strcasecmp(wait_policy, "active") == 0) return kEndless;
  return {};
}

void RunParts(int parts, PartFunction run, const void* f) {
  if (!within_part && parts > 1) return ThisThreadsTeam().Run(parts, run, f);
  for (int part = 0; part < parts; ++part) run(f, part);
}

}  // namespace swarr
