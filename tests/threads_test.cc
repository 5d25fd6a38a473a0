// SPDX-License-Identifier: Apache-2.0
#include "tensor/threads.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tensor/kernels/rows.h"

using namespace swarr;

namespace {

using Milliseconds = std::chrono::milliseconds;

// The processor time of all threads of this process, in milliseconds.
double ProcessorTime() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

// How often each of `parts` parts ran.
std::vector<int> Runs(int parts) {
  std::vector<int> runs(static_cast<std::size_t>(parts));
  ForParts(parts, [&](int part) { ++runs[static_cast<std::size_t>(part)]; });
  return runs;
}

std::vector<int> Once(int parts) { return std::vector<int>(static_cast<std::size_t>(parts), 1); }

// Waits, without taking the processor, until `holds`; false if it does not come to hold. Only a test may let parts
// wait.
template <class F>
bool Until(const F& holds) {
  for (int i = 0; i < 20'000 && !holds(); ++i) std::this_thread::sleep_for(Milliseconds(1));
  return holds();
}

// The thread that takes part 1.
pthread_t TheWorker() {
  pthread_t worker{};
  std::atomic<bool> begun = false;
  ForParts(2, [&](int part) {
    if (part == 1) {
      worker = pthread_self();
      begun = true;
    } else {
      CHECK(Until([&] { return begun.load(); }));
    }
  });
  return worker;
}

// A worker that is kept from all work, in a signal handler.
struct {
  int pipe[2];
  std::atomic<bool> now = false;
  std::atomic<ssize_t> read = 0;
} held;

}  // namespace

TEST_CASE("every part runs once, for more parts than processors, in growing and shrinking teams") {
  for (int parts : {1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 9, 1, 3}) {
    for (int repetition = 0; repetition < 200; ++repetition) REQUIRE(Runs(parts) == Once(parts));
  }
}

TEST_CASE("what a part writes is seen after the call, and what the caller wrote is seen by the parts") {
  std::array<std::int64_t, 3> sums{};
  for (std::int64_t round = 1; round <= 2000; ++round) {
    const std::int64_t plain = round;  // no atomic: the hand-over alone orders
    ForParts(3, [&](int part) { sums[static_cast<std::size_t>(part)] += plain; });
    REQUIRE(sums == std::array{round * (round + 1) / 2, round * (round + 1) / 2, round * (round + 1) / 2});
  }
}

TEST_CASE("parts meet whenever they end, and workers are found spinning, asleep and on the way between") {
  const auto spend = [](int microseconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
    while (std::chrono::steady_clock::now() < end) continue;
  };
  for (int round = 0; round < 2000; ++round) {
    std::array<int, 3> runs{};
    ForParts(3, [&](int part) {
      spend((round + part) % 3 * 4);
      ++runs[static_cast<std::size_t>(part)];
    });
    REQUIRE(runs == std::array{1, 1, 1});
    spend(round % 16 * 6);
  }
}

TEST_CASE("parts that take long run at the same time, each in a thread of its own") {
  std::array<std::thread::id, 3> ids;
  std::atomic<int> begun = 0;
  ForParts(3, [&](int part) {
    ++begun;
    CHECK(Until([&] { return begun == 3; }));
    ids[static_cast<std::size_t>(part)] = std::this_thread::get_id();
  });
  CHECK(ids[0] == std::this_thread::get_id());
  CHECK(std::set(ids.begin(), ids.end()).size() == 3);
}

TEST_CASE("the caller does the part of a worker that the system does not run, and does not wait for it") {
  const pthread_t worker = TheWorker();
  REQUIRE(pipe(held.pipe) == 0);
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {
    held.now = true;
    char byte;
    held.read = read(held.pipe[0], &byte, 1);  // until somebody writes
  };
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  REQUIRE(pthread_kill(worker, SIGUSR1) == 0);
  REQUIRE(Until([] { return held.now.load(); }));
  std::array<std::thread::id, 2> ids;
  ForParts(2, [&](int part) { ids[static_cast<std::size_t>(part)] = std::this_thread::get_id(); });
  CHECK(ids == std::array{std::this_thread::get_id(), std::this_thread::get_id()});
  REQUIRE(write(held.pipe[1], "", 1) == 1);
  CHECK(pthread_equal(TheWorker(), worker));  // it goes on
  CHECK(held.read == 1);
  REQUIRE(sigaction(SIGUSR1, &before, nullptr) == 0);
  for (int end : held.pipe) close(end);
}

TEST_CASE("workers sleep while there is nothing to do, and wake for the next call") {
  CHECK(Runs(3) == Once(3));
  for (int repetition = 0; repetition < 3; ++repetition) {
    const double before = ProcessorTime();
    std::this_thread::sleep_for(Milliseconds(100));
    CHECK(ProcessorTime() - before < 10);
    CHECK(Runs(3) == Once(3));
  }
}

TEST_CASE("a caller that waits for a long part sleeps") {
  std::atomic<bool> begun = false;
  const double before = ProcessorTime();
  ForParts(2, [&](int part) {
    if (part == 0) {
      CHECK(Until([&] { return begun.load(); }));
    } else {
      begun = true;
      std::this_thread::sleep_for(Milliseconds(100));
    }
  });
  CHECK(ProcessorTime() - before < 10);
}

TEST_CASE("the exception of the lowest part that threw is thrown to the caller, after all parts have run") {
  for (int repetition = 0; repetition < 100; ++repetition) {
    std::atomic<int> ran = 0;
    const auto run = [&] {
      ForParts(5, [&](int part) {
        ++ran;
        if (part == 2 || part == 4) throw std::runtime_error("part " + std::to_string(part));
      });
    };
    REQUIRE_THROWS_WITH_AS(run(), "part 2", std::runtime_error);
    REQUIRE(ran == 5);
  }
  CHECK_THROWS_WITH_AS(ForParts(2,
                                [](int part) {
                                  if (part == 0) throw std::runtime_error("own");
                                }),
                       "own", std::runtime_error);
  CHECK(Runs(5) == Once(5));
}

TEST_CASE("within a part, parts run in its thread") {
  std::array<std::array<int, 4>, 3> runs{};
  std::atomic<int> elsewhere = 0;
  ForParts(3, [&](int outer) {
    const std::thread::id here = std::this_thread::get_id();
    ForParts(4, [&](int inner) {
      ++runs[static_cast<std::size_t>(outer)][static_cast<std::size_t>(inner)];
      if (std::this_thread::get_id() != here) ++elsewhere;
    });
  });
  for (const auto& row : runs) CHECK(row == std::array{1, 1, 1, 1});
  CHECK(elsewhere == 0);
}

TEST_CASE("threads of a program may call at the same time, and end") {
  std::atomic<int> wrong = 0;
  for (int generation = 0; generation < 3; ++generation) {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&, caller] {
        for (int repetition = 0; repetition < 500; ++repetition) {
          if (Runs(2 + caller) != Once(2 + caller)) ++wrong;
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  CHECK(wrong == 0);
}

TEST_CASE("a process after fork has workers of its own") {
  CHECK(Runs(3) == Once(3));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // instead of hanging
    _exit(Runs(3) == Once(3) && Runs(5) == Once(5) ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(Runs(3) == Once(3));
}

TEST_CASE("ranges and tasks cover their count once, whatever the threads, none of them empty") {
  for (std::int64_t count : {0, 1, 2, 5, 100, 1000}) {
    for (int threads : {1, 2, 3, 7}) {
      INFO(count << " by " << threads << " threads");
      std::vector<int> ranges(static_cast<std::size_t>(count)), tasks = ranges;
      std::atomic<int> empty = 0, strange = 0;
      ForRanges(threads, count, [&](std::int64_t begin, std::int64_t end) {
        if (begin == end) ++empty;
        for (std::int64_t i = begin; i < end; ++i) ++ranges[static_cast<std::size_t>(i)];
      });
      ForTasks(threads, count, [&](int thread, std::int64_t task) {
        if (thread < 0 || thread >= threads) ++strange;
        ++tasks[static_cast<std::size_t>(task)];
      });
      CHECK(ranges == std::vector<int>(ranges.size(), 1));
      CHECK(tasks == std::vector<int>(tasks.size(), 1));
      CHECK(empty == (count == 0 ? 1 : 0));
      CHECK(strange == 0);
    }
  }
}

TEST_CASE("how long waiting threads spin follows the variables of OpenMP") {
  const auto same = [](SpinLimit a, SpinLimit b) { return a.turns == b.turns && a.time == b.time; };
  const SpinLimit usual, endless = {.time = std::chrono::nanoseconds::max()};
  CHECK(usual.time < Milliseconds(1));
  CHECK(same(ParseSpinLimit(nullptr, nullptr), usual));
  for (const char* policy : {"active", "ACTIVE"}) CHECK(same(ParseSpinLimit(policy, nullptr), endless));
  for (const char* policy : {"passive", "Passive"}) CHECK(ParseSpinLimit(policy, nullptr).turns == 0);
  for (const char* count : {"infinity", "infinite"}) CHECK(same(ParseSpinLimit("passive", count), endless));
  CHECK(ParseSpinLimit(nullptr, "0").turns == 0);
  CHECK(same(ParseSpinLimit("active", "300"), {.turns = 300, .time = endless.time}));
  for (const char* unreadable : {"", "-1", "12x", "99999999999999999999"}) {
    CHECK(same(ParseSpinLimit(unreadable, unreadable), usual));
  }
}
