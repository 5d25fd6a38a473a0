// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/check.h"

namespace swarr {
namespace {

constexpr double kSecondsBetweenLines = 5.0, kSecondsBetweenRedraws = 0.1;

// Columns of the terminal on stderr.
std::size_t TerminalWidth() {
  constexpr std::size_t kUsual = 80;
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

std::string Bar(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(share * kWidth);
  return "[" + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(kWidth - full), '.') + "] ";
}

std::string TimeLeft(double seconds) {
  const auto whole = std::llround(seconds);
  char text[48];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld left", whole / 3600, whole / 60 % 60, whole % 60);
  return text;
}

}  // namespace

Progress::Progress(std::string unit, bool quiet)
    : unit_(std::move(unit)), quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {
  if (!terminal_) last_ = start_;  // what takes no time is not told of
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::Show(std::int64_t done, std::int64_t total, const std::string& more, bool news) {
  if (quiet_) return;
  const auto now = Clock::now();
  const auto since = [&](Clock::time_point then) { return std::chrono::duration<double>(now - then).count(); };
  if (first_ < 0) first_ = done - 1;
  const bool due = since(last_) >= (terminal_ ? kSecondsBetweenRedraws : kSecondsBetweenLines);
  const bool ends = done == total && (terminal_ || shown_);
  if (!due && !ends && !news) return;
  last_ = now;
  shown_ = true;
  const double each = since(start_) / static_cast<double>(std::max<std::int64_t>(1, done - first_));
  std::string line = Concat(unit_, " ", done, "/", total, "  ", TimeLeft(each * static_cast<double>(total - done)),
                            more.empty() ? "" : "  ", more);
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  const std::size_t room = TerminalWidth() - 1;  // in the last column some terminals begin a new line
  const std::string bar = Bar(static_cast<double>(done) / static_cast<double>(std::max<std::int64_t>(1, total)));
  if (line.size() + bar.size() <= room) line = bar + line;
  if (line.size() > room) line.resize(room);
  std::fprintf(stderr, "\r\033[K%s", line.c_str());  // \033[K: clear to the end of the line
  line_open_ = true;
}

void Progress::Say(const std::string& line) {
  std::fprintf(stderr, "%s%s\n", std::exchange(line_open_, false) ? "\n" : "", line.c_str());
}

}  // namespace swarr
