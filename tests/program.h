// SPDX-License-Identifier: Apache-2.0
// Runs the program as a user does, and collects what it says. It sees no CUDA device: what these tests expect is what a
// machine without one says, and the device's own tests use the library (cuda_*_test.cc).
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "temp_directory.h"

namespace swarr {

struct Outcome {
  int status = -1;  // exit status, or -1 if a signal ended it
  std::string out, err;
  // One sentence, and no more: what every failure must give.
  bool IsOneSentence() const {
    return !err.empty() && err.back() == '\n' && std::count(err.begin(), err.end(), '\n') == 1;
  }
  bool Says(const std::string& text) const { return err.find(text) != std::string::npos; }
};

// A started program; Wait must be called.
class Program {
 public:
  // `prepare` runs in the child before the program starts and returns whether it managed. If not, the status is 125.
  // `out`: a file for stdout instead of one of our own. Whatever these tests were started by, no signal that asks for
  // an end is ignored, unless `prepare` sees to it.
  explicit Program(std::vector<std::string> arguments, const std::function<bool()>& prepare = {},
                   const std::string& out = "")
      : own_out_(out.empty()) {
    arguments.insert(arguments.begin(), SWARR_PROGRAM);
    const std::string out_path = own_out_ ? (files_ / "out").string() : out, err_path = (files_ / "err").string();
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    SWARR_CHECK(pid_ >= 0, "can't fork");
    if (pid_ > 0) return;
    constexpr int kFlags = O_WRONLY | O_CREAT;
    const bool opened = ::dup2(::open(out_path.c_str(), kFlags, 0600), STDOUT_FILENO) >= 0 &&
                        ::dup2(::open(err_path.c_str(), kFlags, 0600), STDERR_FILENO) >= 0;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
    if (!opened || (prepare && !prepare())) ::_exit(kNotPrepared);
    ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
    ::execv(argv[0], argv.data());
    ::_exit(kNotPrepared);
  }

  pid_t pid() const { return pid_; }
  Outcome Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, own_out_ ? ReadFile(files_ / "out") : "",
            ReadFile(files_ / "err")};
  }

  static constexpr int kNotPrepared = 125;

 private:
  TempDirectory files_;
  bool own_out_;
  pid_t pid_ = -1;
};

inline Outcome Swarr(std::vector<std::string> arguments) { return Program(std::move(arguments)).Wait(); }

// The one line of JSON that the program prints.
inline nlohmann::json JsonOf(const std::vector<std::string>& arguments) {
  const Outcome outcome = Swarr(arguments);
  CHECK_MESSAGE(outcome.status == 0, outcome.err);
  CHECK(std::count(outcome.out.begin(), outcome.out.end(), '\n') == 1);
  return nlohmann::json::parse(outcome.out);
}

// A pipe without a reader for stdout and stderr, as `| head` leaves them.
inline bool WriteToClosedPipe() {
  int ends[2];
  if (::pipe(ends) != 0) return false;
  ::close(ends[0]);
  return ::dup2(ends[1], STDOUT_FILENO) >= 0 && ::dup2(ends[1], STDERR_FILENO) >= 0;
}

// The rows of a JSON Lines file.
inline std::vector<nlohmann::json> Lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> rows;
  ForEachJsonLine(path, [&](int, const nlohmann::json& row) { rows.push_back(row); });
  return rows;
}

inline std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Short problems of the chain task.
inline const std::vector<std::string> kShort = {"--task", "chain", "--n-min", "1", "--n-max", "2"};

// The flags of a model that trains in no time, on the shortest problems of the chain task.
inline std::vector<std::string> TinyPretrain(const std::filesystem::path& output_dir, int steps) {
  const std::vector<std::string> shape = {"--layers", "2",  "--hidden-size",   "16", "--heads", "2",
                                          "--ffn",    "24", "--max-positions", "64"};
  return std::vector<std::string>{
             "pretrain",     "--batch-size",     "4", "--threads", "1", "--quiet", "--max-steps", std::to_string(steps),
             "--output-dir", output_dir.string()} +
         shape + kShort;
}

// A model with random weights that all tests of a file can use.
inline std::string TinyModel() {
  static const TempDirectory directory;
  static const std::string model = [] {
    const std::string path = (directory / "model").string();
    const Outcome made = Swarr(TinyPretrain(path, 2));
    SWARR_CHECK(made.status == 0, "can't make the model of the tests: ", made.err);
    return path;
  }();
  return model;
}

// Whether nothing is in `directory`, hidden files included, but these.
inline bool HoldsOnly(const std::filesystem::path& directory, const std::vector<std::string>& names) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (std::find(names.begin(), names.end(), entry.path().filename().string()) == names.end()) return false;
  }
  return std::all_of(names.begin(), names.end(), [&](const auto& n) { return std::filesystem::exists(directory / n); });
}

}  // namespace swarr
