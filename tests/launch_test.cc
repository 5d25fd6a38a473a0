// SPDX-License-Identifier: Apache-2.0
// Which rank a process is, from what launchers put into the environment; and processes that are ranks.
#include "dist/launch.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/files.h"
#include "program.h"
#include "train/checkpoint.h"

namespace swarr {
namespace {

using doctest::Contains;

Launch LaunchIn(const std::map<std::string, std::string>& variables) {
  return LaunchOf([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST_CASE("torchrun's, mpirun's, srun's and our own variables tell which rank a process is") {
  CHECK(LaunchIn({}) == Launch{});
  CHECK(LaunchIn({{"RANK", "5"},
                  {"WORLD_SIZE", "8"},
                  {"LOCAL_RANK", "1"},
                  {"MASTER_ADDR", "node7"},
                  {"MASTER_PORT", "29400"}}) == Launch{5, 8, 1, "node7", "29401"});
  CHECK(LaunchIn({{"OMPI_COMM_WORLD_RANK", "1"},
                  {"OMPI_COMM_WORLD_SIZE", "2"},
                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                  {"SWARR_RENDEZVOUS", "localhost:700"}}) == Launch{1, 2, 1, "localhost", "700"});
  CHECK(LaunchIn({{"SLURM_PROCID", "3"},
                  {"SLURM_STEP_NUM_TASKS", "4"},
                  {"SLURM_LOCALID", "1"},
                  {"SWARR_RENDEZVOUS", "[::1]:700"}}) == Launch{3, 4, 1, "::1", "700"});
  // Ours wins over a launcher's, also to be alone under one.
  CHECK(LaunchIn({{"SWARR_RANKS", "1"}, {"RANK", "1"}, {"WORLD_SIZE", "2"}}) == Launch{});
  CHECK(LaunchIn({{"WORLD_SIZE", "1"}, {"RANK", "0"}}) == Launch{});
  CHECK(LaunchIn({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}) == Launch{});  // a batch script, not a step of srun
}

TEST_CASE("an environment that does not say all is refused by a sentence that names the variable") {
  std::map<std::string, std::string> full = {
      {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "29400"}};
  for (const char* name : {"RANK", "LOCAL_RANK", "MASTER_PORT"}) {
    auto part = full;
    part.erase(name);
    CHECK_THROWS_WITH_AS(LaunchIn(part), Contains(name), Error);
    part[name] = "two";
    CHECK_THROWS_WITH_AS(LaunchIn(part), Contains(name), Error);
  }
  full["RANK"] = "2";
  CHECK_THROWS_WITH_AS(LaunchIn(full), Contains("RANK is 2, but there are 2 ranks"), Error);
  full["RANK"] = "1";
  full.erase("MASTER_ADDR");
  CHECK_THROWS_WITH_AS(LaunchIn(full), Contains("SWARR_RENDEZVOUS"), Error);
  full["SWARR_RENDEZVOUS"] = "localhost";
  CHECK_THROWS_WITH_AS(LaunchIn(full), Contains("HOST:PORT"), Error);
  CHECK_THROWS_WITH_AS(LaunchIn({{"SWARR_RANK", "0"}}), Contains("lacks SWARR_RANKS"), Error);
}

// A port of this machine where nobody listens now.
std::string FreePort() {
  const int s = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  SWARR_CHECK(::bind(s, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                  ::getsockname(s, reinterpret_cast<sockaddr*>(&address), &size) == 0,
              "can't find a free port");
  ::close(s);
  return std::to_string(ntohs(address.sin_port));
}

// The program as so many ranks with the same arguments, or the last one with more.
std::vector<std::unique_ptr<Program>> Start(int ranks, const std::vector<std::string>& all,
                                            const std::vector<std::string>& of_last = {}) {
  const std::string place = "127.0.0.1:" + FreePort();
  std::vector<std::unique_ptr<Program>> programs;
  for (int r = 0; r < ranks; ++r) {
    const std::vector<std::string> arguments = r + 1 < ranks ? all : all + of_last;
    programs.push_back(std::make_unique<Program>(arguments, [r, ranks, place] {
      const std::string rank = std::to_string(r);
      return ::setenv("SWARR_RANK", rank.c_str(), 1) == 0 && ::setenv("SWARR_LOCAL_RANK", rank.c_str(), 1) == 0 &&
             ::setenv("SWARR_RANKS", std::to_string(ranks).c_str(), 1) == 0 &&
             ::setenv("SWARR_RENDEZVOUS", place.c_str(), 1) == 0;
    }));
  }
  return programs;
}

void CheckSameModel(const std::filesystem::path& a, const std::filesystem::path& b) {
  CHECK((ReadFile(a / "model.safetensors") == ReadFile(b / "model.safetensors")));
}

TEST_CASE("two processes train to the bits of one, write one run, and one goes on from where two stopped") {
  const TempDirectory dir;
  const auto sft = [&](const char* name, const char* steps) {
    return std::vector<std::string>{"sft",
                                    "--model",
                                    TinyModel(),
                                    "--max-steps",
                                    steps,
                                    "--batch-size",
                                    "3",
                                    "--grad-accum",
                                    "4",
                                    "--save-every",
                                    "2",
                                    "--output-dir",
                                    (dir / name).string(),
                                    "--threads",
                                    "1"} +
           kShort;
  };
  REQUIRE(Swarr(sft("one", "6")).status == 0);
  for (auto& program : Start(2, sft("two", "6"))) {
    const Outcome outcome = program->Wait();
    CHECK_MESSAGE(outcome.status == 0, outcome.err);
  }
  CheckSameModel(dir / "one", dir / "two");
  for (const bool several : {false, true}) {
    ForEachJsonLine(dir / (several ? "two" : "one") / "metrics.jsonl", [&](int, const nlohmann::json& row) {
      for (const char* time : {"exchange_time", "gather_time"}) CHECK((row.value(time, 0.0) > 0) == several);
    });
  }
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    CHECK(
        (ReadFile(dir / "one" / "checkpoint-00000004" / file) == ReadFile(dir / "two" / "checkpoint-00000004" / file)));
  }
  const std::vector<std::string> more = {"--resume", "auto", "--change", "max-steps"};
  const Outcome resumed = Swarr(sft("two", "9") + more);
  CHECK_MESSAGE(resumed.status == 0, resumed.err);
  for (auto& program : Start(3, sft("one", "9") + more)) CHECK(program->Wait().status == 0);
  CheckSameModel(dir / "one", dir / "two");
}

TEST_CASE("three processes of RL have the weights and completions of one") {
  const TempDirectory dir;
  const auto rl = [&](const char* name) {
    return std::vector<std::string>{"rl",
                                    "--model",
                                    TinyModel(),
                                    "--max-steps",
                                    "3",
                                    "--chunks",
                                    "3",
                                    "--threads",
                                    "1",
                                    "--prompts-per-step",
                                    "4",
                                    "--num-generations",
                                    "3",
                                    "--output-dir",
                                    (dir / name).string()} +
           kShort;
  };
  REQUIRE(Swarr(rl("one")).status == 0);
  for (auto& program : Start(3, rl("three"))) CHECK(program->Wait().status == 0);
  CheckSameModel(dir / "one", dir / "three");
  const char* completions = "completions/step-00000003.jsonl";
  CHECK((ReadFile(dir / "one" / completions) == ReadFile(dir / "three" / completions)));
}

TEST_CASE("when a rank is killed the others end with a sentence, and the run goes on from its last checkpoint") {
  const TempDirectory dir;
  const auto sft = [&](const char* steps) {
    return std::vector<std::string>{
               "sft",          "--model", TinyModel(), "--max-steps", steps,          "--grad-accum",        "2",
               "--save-every", "1",       "--threads", "1",           "--output-dir", (dir / "run").string()} +
           kShort;
  };
  for (const std::size_t victim : {1, 0}) {
    auto programs = Start(2, sft("100000") + std::vector<std::string>{"--overwrite"});
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    ::kill(programs[victim]->pid(), SIGKILL);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(programs[victim]->Wait().status == -1);
    const Outcome left = programs[1 - victim]->Wait();
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));  // a minute is promised
    CHECK(left.status == 1);
    CHECK_MESSAGE(left.Says(Concat("rank ", victim, " has ended")), left.err);
  }
  const std::filesystem::path last = CheckpointsOf(dir / "run").back();
  const std::string two_more = std::to_string(std::stoi(last.filename().string().substr(sizeof "checkpoint-" - 1)) + 2);
  const Outcome resumed =
      Swarr(sft(two_more.c_str()) + std::vector<std::string>{"--resume", "auto", "--change", "max-steps"});
  CHECK_MESSAGE(resumed.status == 0, resumed.err);
  CHECK(resumed.Says("resumed from " + last.string()));
}

TEST_CASE("ranks with other options or other data are refused, by all of them") {
  const TempDirectory dir;
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directories(dir / name);
    WriteFileAtomically(dir / name / "rows.jsonl",
                        Concat(R"({"prompt": "01:2?", "completion": ")", name[0] == 'a', R"("})", "\n"));
  }
  const std::vector<std::string> sft = {"sft",
                                        "--model",
                                        TinyModel(),
                                        "--max-steps",
                                        "1",
                                        "--grad-accum",
                                        "2",
                                        "--data",
                                        (dir / "a" / "rows.jsonl").string(),
                                        "--output-dir",
                                        (dir / "run").string()};
  const std::vector<std::pair<std::vector<std::string>, const char*>> others = {
      {{"--lr", "0.5"}, "another lr"}, {{"--data", (dir / "b" / "rows.jsonl").string()}, "another content of data"}};
  for (const auto& [more, what] : others) {
    for (auto& program : Start(3, sft, more)) {
      const Outcome outcome = program->Wait();
      CHECK(outcome.status != 0);
      CHECK_MESSAGE((outcome.Says(Concat("rank 2 has ", what)) || outcome.Says("has ended")), outcome.err);
    }
    CHECK_FALSE(std::filesystem::exists(dir / "run" / "metrics.jsonl"));
  }
}

TEST_CASE("a command that is not shared out is refused to several ranks") {
  for (auto& program : Start(2, {"inspect", "--model", TinyModel()})) {
    const Outcome outcome = program->Wait();
    CHECK(outcome.status == 2);
    CHECK_MESSAGE((outcome.IsOneSentence() && outcome.Says("of 2") && outcome.Says("SWARR_RANKS=1")), outcome.err);
  }
}

TEST_CASE("more ranks than chunks are refused") {
  const TempDirectory dir;
  const std::vector<std::string> sft =
      std::vector<std::string>{"sft", "--model",      TinyModel(),           "--max-steps",
                               "1",   "--output-dir", (dir / "run").string()} +
      kShort;
  for (auto& program : Start(2, sft)) {
    const Outcome outcome = program->Wait();
    CHECK(outcome.status == 1);
    CHECK_MESSAGE((outcome.Says("--grad-accum") || outcome.Says("has ended")), outcome.err);
  }
}

}  // namespace
}  // namespace swarr
