// SPDX-License-Identifier: Apache-2.0
// sample, eval and bench that a signal stops: what they leave, what they say, and that nobody takes it for the whole.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "program.h"

namespace swarr {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

void Sleep(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

// For some seconds: what never comes is a failure that the checks after it tell of.
void WaitUntil(const std::function<bool()>& holds) {
  for (int i = 0; i < 10'000 && !holds(); ++i) Sleep(1);
}

// Whether the program no longer ends at once where this signal comes. Until it begins, its process is the tests' own.
bool Watches(pid_t pid, int signal) {
  const fs::path process = Concat("/proc/", pid);
  std::error_code ignored;
  if (!fs::equivalent(process / "exe", SWARR_PROGRAM, ignored)) return false;
  const std::string status = ReadFile(process / "status"), name = "SigCgt:";
  return (std::stoull(status.substr(status.find(name) + name.size()), nullptr, 16) >> (signal - 1) & 1) != 0;
}

// `done` is as it was printed.
struct Stopped {
  Outcome outcome;
  int done = 0, all = 0;
};

Stopped StoppedAs(const Outcome& outcome, int signal) {
  CAPTURE(outcome.err);
  CHECK(outcome.status == 128 + signal);
  Stopped stopped{outcome};
  const std::size_t sentence = outcome.err.find("swarr: interrupted after ");
  REQUIRE(sentence != std::string::npos);
  REQUIRE(std::sscanf(outcome.err.c_str() + sentence, "swarr: interrupted after %d of %d", &stopped.done,
                      &stopped.all) == 2);
  return stopped;
}

// The command stopped by the signal when it has finished something but not all, which takes a while that nobody knows.
Stopped StopBetween(const Arguments& arguments, int signal) {
  Stopped stopped;
  for (int wait = 10; stopped.done == 0; wait *= 2) {
    Program program(arguments);
    WaitUntil([&] { return Watches(program.pid(), signal); });
    Sleep(wait);
    ::kill(program.pid(), signal);
    stopped = StoppedAs(program.Wait(), signal);
  }
  CHECK(stopped.done < stopped.all);
  return stopped;
}

// Of a model that draws at random: many more completions than are drawn in a moment.
Arguments Drawing(const std::string& command, const Arguments& more, int problems = 1000) {
  return Arguments{command,   "--model", TinyModel(), "--problems", std::to_string(problems),
                   "--slots", "4",       "--samples", "50",         "--threads",
                   "1",       "--quiet", "--task",    "chain",      "--max-completion-length",
                   "50"} +
         more;
}

TEST_CASE("sample that a signal stops leaves in FILE.partial the rows that a run of the finished problems writes") {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    CAPTURE(signal);
    const TempDirectory dir;
    const std::string out = (dir / "rows").string(), part = out + ".partial";
    const Arguments more = {"--keep", "all", "--output", out};
    const Stopped stopped = StopBetween(Drawing("sample", more), signal);
    CHECK(stopped.outcome.Says(
        Concat(" problems; what is finished is in ", part, "; give the command again with --overwrite")));
    CHECK(stopped.outcome.out.empty());
    CHECK(HoldsOnly(dir.path(), {"rows.partial"}));
    const std::string rows = ReadFile(part);

    const Outcome refused = Swarr(Drawing("sample", more));
    CHECK(refused.status == 1);
    CHECK(refused.Says("--output may write " + part + ", which is there already; choose another file, or replace it"));
    const Outcome whole = Swarr(Drawing("sample", more + Arguments{"--overwrite"}, stopped.done));
    CHECK_MESSAGE(whole.status == 0, whole.err);
    CHECK(ReadFile(out) == rows);
    CHECK(HoldsOnly(dir.path(), {"rows"}));
  }
}

TEST_CASE("sample that a signal stops sooner than before leaves what there was, unless it draws something else") {
  const TempDirectory dir;
  const std::string out = (dir / "rows").string(), part = out + ".partial";
  const Arguments more = {"--keep", "all", "--output", out, "--overwrite"};
  REQUIRE(Swarr(Drawing("sample", more, 200)).status == 0);  // it takes a second, and the signal comes much sooner
  fs::rename(out, part);
  const std::string before = ReadFile(part);
  const Stopped sooner = StopBetween(Drawing("sample", more), SIGTERM);
  CHECK(sooner.done < 200);
  CHECK(sooner.outcome.Says(Concat(" problems; what is finished is in ", part,
                                   ", where an earlier run left it and more; give the command again with --overwrite "
                                   "for all of them, which replaces that file")));
  CHECK(ReadFile(part) == before);
  const Stopped other = StopBetween(Drawing("sample", more + Arguments{"--seed", "1"}), SIGTERM);
  CHECK_FALSE(other.outcome.Says("earlier"));
  for (const json& row : Lines(part)) CHECK(row["source"]["seed"] == 1);
  CHECK(HoldsOnly(dir.path(), {"rows.partial"}));
}

TEST_CASE("eval that a signal stops leaves the completions of the finished problems and prints no accuracy") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string(), part = out + ".partial", whole = (dir / "whole").string();
  const Stopped stopped = StopBetween(Drawing("eval", {"--completions-out", out, "--json"}), SIGTERM);
  CHECK(stopped.outcome.Says("what is finished is in " + part + ";"));
  CHECK(stopped.outcome.out.empty());
  CHECK(HoldsOnly(dir.path(), {"out.partial"}));
  REQUIRE(Swarr(Drawing("eval", {"--completions-out", whole}, stopped.done)).status == 0);
  CHECK(ReadFile(part) == ReadFile(whole));
}

TEST_CASE("of two evals into one directory at a time the second is refused before it draws, and the first goes on") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string();
  Program first(Drawing("eval", {"--output-dir", out}, 4000));
  WaitUntil([&] { return Watches(first.pid(), SIGTERM); });
  for (const Arguments& more : {Arguments{}, {"--overwrite"}}) {
    const Outcome second = Swarr(Drawing("eval", Arguments{"--output-dir", out} + more, 1));
    CHECK(second.status == 1);
    CHECK(second.Says("another process is writing to " + out));
  }
  CHECK(HoldsOnly(out, {}));
  ::kill(first.pid(), SIGTERM);
  StoppedAs(first.Wait(), SIGTERM);
}

TEST_CASE(
    "eval --output-dir that a signal stops leaves completions there that report does not take for an evaluation") {
  const TempDirectory dir;
  const fs::path out = dir / "eval", part = out / "completions.jsonl.partial";
  const Arguments more = {"--output-dir", out.string()};
  const Stopped stopped = StopBetween(Drawing("eval", more), SIGTERM);
  CHECK(stopped.outcome.Says("what is finished is in " + part.string() + ";"));
  CHECK(HoldsOnly(out, {"completions.jsonl.partial"}));
  CHECK(Lines(part).size() == static_cast<std::size_t>(50 * stopped.done));
  CHECK(Swarr({"report", out.string(), "--output", (dir / "page.html").string()}).status == 1);
  CHECK(Swarr(Drawing("eval", more, 1)).Says("is not empty"));
  REQUIRE(Swarr(Drawing("eval", more + Arguments{"--overwrite"}, 1)).status == 0);
  CHECK(HoldsOnly(out, {"completions.jsonl", "evaluation.json", "resolved_config.json"}));
}

TEST_CASE("eval that a signal stops in its greedy pass keeps the sampled completions, which are all there") {
  const TempDirectory dir;
  const fs::path out = dir / "out", part = out / "completions.jsonl.partial";
  Stopped stopped;
  for (int wait = 100; !stopped.outcome.Says("--greedy"); wait += wait / 4) {
    fs::remove_all(out);
    Program program(Drawing("eval", {"--samples", "1", "--greedy", "--output-dir", out.string()}, 4000));
    WaitUntil([&] { return Watches(program.pid(), SIGTERM); });
    Sleep(wait);
    ::kill(program.pid(), SIGTERM);
    const Outcome outcome = program.Wait();
    REQUIRE(outcome.status == 128 + SIGTERM);  // else all was done
    stopped = StoppedAs(outcome, SIGTERM);
  }
  CHECK(stopped.outcome.Says(" problems with --greedy; what is finished is in " + part.string() + ";"));
  CHECK(Lines(part).size() == static_cast<std::size_t>(stopped.all));
}

TEST_CASE("eval that a signal stops without a file, or with its greedy completions, says how far it came") {
  const Stopped without = StopBetween(Drawing("eval", {}), SIGTERM);
  CHECK(without.outcome.Says(" problems; nothing of them is in a file; give the command again for all of them"));

  const TempDirectory dir;
  const fs::path out = dir / "out";
  Program program(Drawing("eval", {"--samples", "1", "--greedy", "--completions-out", out.string()}, 20'000));
  WaitUntil([&] { return fs::exists(out); });  // the sampled ones are complete
  ::kill(program.pid(), SIGTERM);
  const Stopped greedy = StoppedAs(program.Wait(), SIGTERM);
  CHECK(greedy.outcome.Says(
      " problems with --greedy; nothing of them is in a file; give the command again with --overwrite"));
  CHECK(greedy.outcome.out.empty());
  CHECK(Lines(out).size() == static_cast<std::size_t>(greedy.all));
  CHECK(HoldsOnly(dir.path(), {"out"}));
}

Arguments Bench(const std::string& suite, const std::string& rows, const std::string& seconds, const Arguments& more) {
  return Arguments{"bench", "--suite", suite, "--rows", rows, "--seconds-per-row", seconds, "--threads", "1"} + more;
}

// Waits until so many lines are in the file.
void WaitForLines(const fs::path& file, std::ptrdiff_t lines) {
  WaitUntil([&] {
    const std::string text = fs::exists(file) ? ReadFile(file) : "";
    return std::ranges::count(text, '\n') >= lines;
  });
}

TEST_CASE("bench that a signal stops ends its row and leaves in FILE.partial those measured, which say of how many") {
  const TempDirectory dir;
  const std::string out = (dir / "out").string(), file = (dir / "rows").string(), whole = (dir / "whole").string();
  Program program(Bench("ops", "D gemm", "0.05", {"--json", file}), {}, out);
  WaitForLines(out, 4);  // the processor, its peak and two rows
  ::kill(program.pid(), SIGTERM);
  const Stopped stopped = StoppedAs(program.Wait(), SIGTERM);
  CHECK(stopped.outcome.Says(" rows; what is finished is in " + file +
                             ".partial; give the command again with --overwrite"));
  CHECK(HoldsOnly(dir.path(), {"out", "rows.partial"}));
  REQUIRE(Swarr(Bench("ops", "D gemm", "1e-6", {"--json", whole})).status == 0);
  const json part = json::parse(ReadFile(file + ".partial")), all = json::parse(ReadFile(whole));
  CHECK(part["stopped"] == json{{"rows", stopped.done}, {"of", stopped.all}});
  CHECK_FALSE(all.contains("stopped"));
  CHECK(stopped.done >= 2);
  CHECK(stopped.all == static_cast<int>(all["rows"].size()) - 1);  // the peak is nobody's wish
  REQUIRE(part["rows"].size() == static_cast<std::size_t>(stopped.done) + 1);
  CHECK(part["rows"].size() < all["rows"].size());
  for (std::size_t i = 0; i < part["rows"].size(); ++i) {
    CHECK(part["rows"][i]["name"] == all["rows"][i]["name"]);
    CHECK(part["rows"][i].size() == all["rows"][i].size());
  }
}

TEST_CASE("a second signal ends bench within its row, and one that serves requests ends at the first") {
  const TempDirectory dir;
  const fs::path out = dir / "out";
  const Arguments one_row = Bench("ops", "C gemm gate-up M4096", "60", {"--json", (dir / "rows").string()});
  Program program(one_row, {}, out.string());
  WaitForLines(out, 2);  // the processor and the peak, after which the row begins
  ::kill(program.pid(), SIGTERM);
  Sleep(20);
  ::kill(program.pid(), SIGTERM);
  const Outcome outcome = program.Wait();
  CHECK(outcome.status == -1);
  CHECK(outcome.Says("interrupt again"));
  CHECK(HoldsOnly(dir.path(), {"out"}));

  fs::remove(out);
  const auto wait_for_ever = [] {
    int ends[2];
    return ::pipe(ends) == 0 && ::dup2(ends[0], STDIN_FILENO) >= 0;
  };
  Program server(Bench("ops", "D swiglu", "0.05", {"--on-request"}), wait_for_ever, out);
  WaitForLines(out, 1);
  ::kill(server.pid(), SIGTERM);
  const Outcome ended = server.Wait();
  CHECK(ended.status == -1);
  CHECK(ended.err.empty());
}

TEST_CASE("bench whose reader goes away ends if it writes no file, and else measures all") {
  const TempDirectory dir;
  const fs::path file = dir / "rows";
  CHECK(Program(Bench("ops", "D swiglu", "0.05", {}), WriteToClosedPipe).Wait().status == -1);
  CHECK(Program(Bench("ops", "D swiglu", "0.05", {"--json", file.string()}), WriteToClosedPipe).Wait().status == 0);
  CHECK(json::parse(ReadFile(file))["rows"].size() == 3);  // with the peak
}

}  // namespace
}  // namespace swarr
