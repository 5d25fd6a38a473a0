// SPDX-License-Identifier: Apache-2.0
// The program: parses, calls a command, and turns exceptions into one sentence on stderr and an exit status.
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX's, which csignal need not have
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <sstream>
#include <stdexcept>

#include "base/names.h"
#include "base/utf8.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/terminal/help.h"
#include "train/run.h"

namespace swarr {
namespace {

constexpr int kFailed = 1, kUsage = 2, kSignalled = 128;  // the last: and the signal's number, as shells have it

// Global, since a signal handler can reach nothing else.
volatile sig_atomic_t signal_came = 0, saving = 0, came_at = 0;

// Of a clock that goes on while nobody sets it, and begins anew after some days.
int Milliseconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int>((now.tv_sec * 1000 + now.tv_nsec / 1'000'000) & 0x3fffffff);
}

// The first signal asks for an end, a second one ends the process: but not while a checkpoint or what is finished is
// written, which takes no time, and not if it is the first once more: timeout and make send one to the process and then
// to its group.
extern "C" void OnSignal(int signal) {
  constexpr int kOnceMore = 10;  // ms
  if (signal_came != 0 && saving == 0) {
    if (std::abs(Milliseconds() - came_at) < kOnceMore) return;
    ::signal(signal, SIG_DFL);
    ::raise(signal);
    return;
  }
  came_at = Milliseconds();
  signal_came = signal;
  const int error = errno;  // of what the signal came into, which has not looked at it yet
  constexpr char kNotice[] = "\nstopping; interrupt again to stop at once\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kNotice, sizeof kNotice - 1);
  errno = error;
}

// Schedulers send SIGTERM, a terminal that closes SIGHUP. What is ignored already stays so: nohup has SIGHUP ignored, a
// shell without job control SIGINT of what it starts in the background. A reader that goes away (| head) gives SIGPIPE,
// which is no reason to lose a run.
Stopping WatchSignals() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);
  }
  ::signal(SIGPIPE, SIG_IGN);
  return {.requested = [] { return signal_came != 0; }, .saving = [](bool begins) { saving = begins; }};
}

// The command line as a shell would take it again.
std::string Join(const std::vector<std::string>& arguments) {
  std::string line = "swarr";
  for (const std::string& argument : arguments) {
    const bool plain = !argument.empty() && argument.find_first_of(" \t\n\"'\\$&|;<>()*?[]#~`!{}") == std::string::npos;
    std::string quoted;
    for (const char c : argument) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += plain ? " " + argument : " '" + quoted + "'";
  }
  return line;
}

// Help is no error. Any other refusal is one sentence that ends by naming --help. An unknown word is reported first,
// since it is often the misspelled form of what is missing.
int ReportParseError(const CLI::App& program, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return program.exit(error);
  std::string command = "swarr";
  const CLI::App* app = &program;
  for (; !app->get_subcommands().empty(); command += " " + app->get_name()) app = app->get_subcommands().front();
  const std::vector<std::string> unknown = program.remaining(/*recurse=*/true);
  const std::vector<std::string> commands = CommandNames(*app);
  std::string what = error.what();
  if (!unknown.empty()) {
    const std::string& word = unknown.front();
    const std::string name = word.substr(0, word.find('='));
    const bool option = name.starts_with('-');
    what = (option             ? "unknown option '"
            : commands.empty() ? "unexpected argument '"
                               : "unknown command '") +
           Excerpt(word) + "'" + DidYouMean(name, option ? OptionNames(*app) : commands);
  } else if (!commands.empty()) {
    what = "a command is required: " + Listed(commands);
  }
  std::cerr << Error(Concat(command, ": ", what, " (see ", command, " --help)")).what() << '\n';
  return kUsage;
}

// Whether the reader of the standard output has gone away, which is no failure.
bool NobodyReads() {
  pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

// Of several ranks on a machine each has one device, which is then the only one that the process sees. To be called
// before anything looks for devices.
void TakeOwnDevice(const Launch& launch) {
  if (launch.size == 1) return;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  std::string device = Concat(launch.local_rank);
  if (visible != nullptr) {
    std::istringstream list(visible);
    for (int i = 0; i <= launch.local_rank; ++i) {
      if (!std::getline(list, device, ',')) device.clear();
    }
  }
  setenv("CUDA_VISIBLE_DEVICES", device.c_str(), /*overwrite=*/1);
}

int Run(std::vector<std::string> arguments) {
  CLI::App program(
      "Converts transformers from full to sliding-window attention and adapts them by reinforcement learning.",
      "swarr");
  program.formatter(HelpFormatter());
  program.option_defaults()->group(kGeneralGroup);
  program.set_help_flag("--help", "Print this help and exit");
  program.set_version_flag("--version", std::string(Version()) + " (" + BuildRevision() + ")");
  program.option_defaults()->always_capture_default()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  program.require_subcommand(1);
  const Environment environment{.command_line = Join(arguments), .watch_signals = WatchSignals, .launch = [] {
                                  Launch launch = LaunchOf(std::getenv);
                                  TakeOwnDevice(launch);
                                  return launch;
                                }};
  for (CommandAdder* add :
       {AddStudy, AddData, AddPretrain, AddSft, AddRl, AddConvert, AddEval, AddReport, AddSample, AddGenerate,
        AddInspect, AddLogits, AddTokenize, AddVerify, AddOracle, AddBench, AddCompletion}) {
    add({program, environment});
  }
  if (!arguments.empty() && arguments.front() == "help") {  // `help COMMAND` is `COMMAND --help`
    arguments.erase(arguments.begin());
    const std::vector<std::string> commands = CommandNames(program);
    const bool known = arguments.empty() || std::ranges::find(commands, arguments.front()) != commands.end();
    if (known) arguments.emplace_back("--help");  // what is not known is refused
  }
  try {
    const std::vector<std::string> expanded = ExpandConfig(program, arguments);
    program.parse(std::vector<std::string>(expanded.rbegin(), expanded.rend()));  // CLI11 takes them last first
  } catch (const CLI::ParseError& error) {
    return ReportParseError(program, error);
  }
  const bool written = std::cout.flush().good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  SWARR_CHECK(written || NobodyReads(), "can't write to the standard output; is the disk full?");
  return 0;
}

// What is said of an exception that the library did not foresee: never what() of another library, which speaks of its
// own functions.
Error SentenceFor(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      dynamic_cast<const std::length_error*>(&error) != nullptr) {
    return Error("not enough memory; try a smaller model, batch or length");
  }
  if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return Error(Concat("can't use ", file->path1().string(), ": ", file->code().message(), "; check the path"));
  }
  return Error(
      "the program failed on this input in a way that nobody foresaw; please report the command and its files");
}

}  // namespace
}  // namespace swarr

int main(int argc, char** argv) {
  try {
    return swarr::Run({argv + 1, argv + argc});
  } catch (const swarr::Interrupted& error) {
    std::cerr << "swarr: " << error.what() << '\n';
    const int signal = swarr::signal_came;  // none came to this process where another rank was asked to stop
    return swarr::kSignalled + (signal != 0 ? signal : SIGTERM);
  } catch (const swarr::UsageError& error) {
    std::cerr << "swarr: " << error.what() << '\n';
    return swarr::kUsage;
  } catch (const swarr::Error& error) {
    std::cerr << "swarr: " << error.what() << '\n';
  } catch (const std::exception& error) {
    std::cerr << "swarr: " << swarr::SentenceFor(error).what() << '\n';
  }
  return swarr::kFailed;
}
