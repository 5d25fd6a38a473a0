// SPDX-License-Identifier: Apache-2.0
// A run of the program that is stopped, killed, started twice, or left by its reader, ends with the bits of one that
// was left alone.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include "program.h"

using namespace swarr;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr int kSteps = 800;

std::vector<std::string> Resumed(const fs::path& dir, int steps = kSteps) {
  return TinyPretrain(dir, steps) + std::vector<std::string>{"--resume", "auto"};
}

// The weights of the run that nobody disturbs.
const std::string& Undisturbed() {
  static const std::string weights = [] {
    const TempDirectory dir;
    REQUIRE(Swarr(TinyPretrain(dir / "run", kSteps)).status == 0);
    return ReadFile(dir / "run" / "model.safetensors");
  }();
  return weights;
}

void WaitForMetrics(const fs::path& dir) {
  const fs::path metrics = dir / "metrics.jsonl";
  for (int i = 0; i < 2000 && !(fs::exists(metrics) && fs::file_size(metrics) > 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// Steps 1, 2, ... without a gap or a repetition.
void CheckWhole(const fs::path& dir) {
  const std::vector<json> rows = Lines(dir / "metrics.jsonl");
  REQUIRE(rows.size() == kSteps);
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(rows[i]["step"] == i + 1);
  CHECK(ReadFile(dir / "model.safetensors") == Undisturbed());
  for (const auto& e : fs::directory_iterator(dir)) CHECK(e.path().filename().string().front() != '.');
}

}  // namespace

TEST_CASE(
    "SIGINT, SIGTERM and SIGHUP save, end with 128 and the signal's number, and the run goes on to the same bits") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    INFO(signal);
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program program(TinyPretrain(out, kSteps));
    WaitForMetrics(out);
    ::kill(program.pid(), signal);
    const Outcome stopped = program.Wait();
    CHECK(stopped.status == 128 + signal);
    CHECK(stopped.Says("--resume auto"));
    CHECK(Lines(out / "metrics.jsonl").size() < kSteps);
    CHECK(!fs::exists(out / "model.safetensors"));
    REQUIRE(Swarr(Resumed(out)).status == 0);
    CheckWhole(out);
  }
}

TEST_CASE("a signal that a run was started to ignore, by nohup or by & in a script, does not stop it") {
  for (const int signal : {SIGHUP, SIGINT}) {
    INFO(signal);
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program program(TinyPretrain(out, kSteps), [=] { return ::signal(signal, SIG_IGN) != SIG_ERR; });
    WaitForMetrics(out);
    ::kill(program.pid(), signal);
    CHECK(program.Wait().status == 0);
    CheckWhole(out);
  }
}

TEST_CASE("signals that come together, as timeout sends one twice, stop the run in good order") {
  for (int i = 0; i < 3; ++i) {
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program program(TinyPretrain(out, kSteps));
    WaitForMetrics(out);
    for (const int signal : {SIGSTOP, SIGTERM, SIGINT, SIGCONT}) ::kill(program.pid(), signal);  // two are not one
    const Outcome stopped = program.Wait();
    CHECK((stopped.status == 128 + SIGTERM || stopped.status == 128 + SIGINT));
    CHECK(stopped.Says("--resume auto"));
  }
}

TEST_CASE("a second signal ends the process at once and leaves nothing half written") {
  std::mt19937 random(1);
  for (int i = 0; i < 3; ++i) {
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program program(TinyPretrain(out, kSteps) + std::vector<std::string>{"--save-every", "1"});
    WaitForMetrics(out);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    ::kill(program.pid(), SIGINT);
    std::this_thread::sleep_for(std::chrono::microseconds(10'000 + random() % 4000));  // sooner it is the first again
    ::kill(program.pid(), SIGINT);
    program.Wait();
    REQUIRE(Swarr(Resumed(out)).status == 0);
    CheckWhole(out);
  }
}

TEST_CASE("kill -9 at any moment loses no more than the steps since the last checkpoint") {
  std::mt19937 random(2);
  for (int i = 0; i < 3; ++i) {
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program program(TinyPretrain(out, kSteps) + std::vector<std::string>{"--save-every", "3"});
    WaitForMetrics(out);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    ::kill(program.pid(), SIGKILL);
    program.Wait();
    REQUIRE(Swarr(Resumed(out)).status == 0);
    CheckWhole(out);
  }
}

TEST_CASE("a reader that goes away neither stops a run nor its saving") {
  const TempDirectory dir;
  const fs::path whole = dir / "whole", out = dir / "stopped";
  std::vector<std::string> talking = TinyPretrain(whole, kSteps);
  std::erase(talking, "--quiet");
  CHECK(Program(talking, WriteToClosedPipe).Wait().status == 0);
  CheckWhole(whole);

  talking = TinyPretrain(out, kSteps);
  std::erase(talking, "--quiet");
  Program program(talking, WriteToClosedPipe);
  WaitForMetrics(out);
  ::kill(program.pid(), SIGINT);
  CHECK(program.Wait().status == 130);
  REQUIRE(Swarr(Resumed(out)).status == 0);
  CheckWhole(out);
}

TEST_CASE("of two resumes of one run at a time one is refused, and nothing is mixed") {
  for (int i = 0; i < 2; ++i) {
    const TempDirectory dir;
    const fs::path out = dir / "run";
    Program first(TinyPretrain(out, kSteps));
    WaitForMetrics(out);
    ::kill(first.pid(), SIGINT);
    REQUIRE(first.Wait().status == 130);
    Program a(Resumed(out)), b(Resumed(out));
    const Outcome outcomes[] = {a.Wait(), b.Wait()};
    int refused = 0;
    for (const Outcome& outcome : outcomes) {
      if (outcome.status == 0) continue;
      ++refused;
      CHECK(outcome.status == 1);
      CHECK_MESSAGE(outcome.Says("another process is writing to"), outcome.err);
    }
    CHECK(refused == 1);
    CheckWhole(out);
  }
}
