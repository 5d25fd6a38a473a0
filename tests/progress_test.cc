// SPDX-License-Identifier: Apache-2.0
// Progress as a terminal shows it.
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <array>
#include <iostream>

#include "program.h"

using namespace swarr;

namespace {

// Says so where the system has no pseudo-terminals, as a root without /dev/pts; the test then ends.
bool SkippedWithoutTerminals() {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal >= 0) {
    ::close(terminal);
    return false;
  }
  std::cout << "skipped: no pseudo-terminals\n";
  return true;
}

// A terminal of so many columns, to which programs write what goes to stderr.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) : ours_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    const winsize size{24, columns, 0, 0};
    const bool open =
        ours_ >= 0 && ::grantpt(ours_) == 0 && ::unlockpt(ours_) == 0 && ::ioctl(ours_, TIOCSWINSZ, &size) == 0;
    SWARR_CHECK(open, "can't open a pseudo-terminal");
    theirs_ = ::open(::ptsname(ours_), O_RDWR | O_NOCTTY);
  }
  ~Terminal() {
    ::close(theirs_);
    ::close(ours_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // What the program draws, line over line, when it has ended well.
  std::vector<std::string> Run(const std::vector<std::string>& arguments) const {
    CHECK(Program(arguments, [&] { return ::dup2(theirs_, STDERR_FILENO) >= 0; }).Wait().status == 0);
    int waiting = 0;
    std::string drawn;
    while (::ioctl(ours_, FIONREAD, &waiting) == 0 && waiting > 0) {
      std::string part(static_cast<std::size_t>(waiting), '\0');
      const ssize_t got = ::read(ours_, part.data(), part.size());
      if (got <= 0) break;
      drawn += part.substr(0, static_cast<std::size_t>(got));
    }
    std::vector<std::string> lines(1);
    for (const char c : drawn) {
      if (c == '\r' || c == '\n') {
        lines.emplace_back();
      } else {
        lines.back() += c;
      }
    }
    for (std::string& line : lines) {
      if (line.starts_with("\033[K")) line.erase(0, 3);
    }
    std::erase(lines, "");
    return lines;
  }

 private:
  int ours_, theirs_ = -1;
};

std::vector<std::string> Loud(std::vector<std::string> arguments) {
  std::erase(arguments, "--quiet");
  return arguments;
}

}  // namespace

TEST_CASE("progress fits the terminal, says how much is done and left, and has a bar where there is room") {
  if (SkippedWithoutTerminals()) return;
  for (const unsigned short columns : std::to_array<unsigned short>({30, 120})) {
    const TempDirectory dir;
    const std::vector<std::string> lines = Terminal(columns).Run(Loud(TinyPretrain(dir / "run", 3)));
    REQUIRE(!lines.empty());
    for (const std::string& line : lines) CHECK_MESSAGE(line.size() < columns, line);
    CHECK(lines.back().find("step 3/3  0:00:00 left") != std::string::npos);
    CHECK((lines.back().find("[########################] ") != std::string::npos) == (columns == 120));
    CHECK((lines.back().find("tokens/s") != std::string::npos) == (columns == 120));
  }
}

TEST_CASE("eval, sample and convert show progress on a terminal unless they are to be quiet") {
  if (SkippedWithoutTerminals()) return;
  const Terminal terminal(80);
  const TempDirectory dir;
  const std::vector<std::string> eval = {"eval", "--model", TinyModel(), "--problems", "3", "--samples", "2"},
                                 convert = {"convert",  "--model", TinyModel(),    "--overwrite",
                                            "--window", "4",       "--output-dir", (dir / "swa").string()},
                                 sample = {
                                     "sample",    "--model", TinyModel(), "--problems",           "2", "--keep", "all",
                                     "--samples", "2",       "--output",  (dir / "rows").string()};
  const std::vector<std::string> quiet = {"--quiet"};
  CHECK(terminal.Run(eval + kShort).back().find("completion 6/6  0:00:00 left") != std::string::npos);
  CHECK(terminal.Run(eval + kShort + quiet).empty());
  CHECK(terminal.Run(sample + kShort).back().find("completion 4/4") != std::string::npos);
  CHECK(terminal.Run(convert).back().find("MB 1/1  0:00:00 left") != std::string::npos);
  CHECK(terminal.Run(convert + quiet).empty());
}

TEST_CASE("a study shows how many steps and completions of a stage are done, and says what a stage is") {
  if (SkippedWithoutTerminals()) return;
  const TempDirectory dir;
  nlohmann::json preset =
      nlohmann::json::parse(ReadFile(std::string(SWARR_TEST_DATA) + "/../../data/presets/quick.json"));
  preset["base_model"] = TinyModel();
  preset["task"].update({{"n_min", 1}, {"n_max", 2}});
  preset["evaluation"]["problems"] = 4;
  preset["cost"]["longest"] = 64;
  preset["sft"]["steps"] = 3;
  preset["rl"].update({{"steps", 2}, {"prompts_per_step", 2}, {"num_generations", 2}});
  preset["arms"].erase(preset["arms"].begin() + 4, preset["arms"].end());  // those of RL and what follows them
  std::filesystem::create_directory(dir / "presets");
  WriteFileAtomically(dir / "presets/tiny.json", preset.dump());
  const std::vector<std::string> study = {"study",      "--preset",          "tiny",         "--threads",           "1",
                                          "--data-dir", dir.path().string(), "--output-dir", (dir / "out").string()};
  std::string drawn;
  for (const std::string& line : Terminal(100).Run(study)) drawn += line + '\n';
  for (const char* part :
       {"seed 0: SA, SFT: 3 steps of SFT\n", "step 3/3  0:00:00 left\n", "completion 4/4  0:00:00 left\n"}) {
    CHECK_MESSAGE(drawn.find(part) != std::string::npos, drawn);
  }
}
