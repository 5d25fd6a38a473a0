// SPDX-License-Identifier: Apache-2.0
#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace swarr {
namespace {

constexpr double kSecondsBetweenLines = 5.0, kSecondsBetweenRedraws = 0.1;

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string Bar(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(share * kWidth);
  return "[" + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(kWidth - full), '.') + "] ";
}

std::string TimeLeft(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[64];
  std::snprintf(text, sizeof text, "%lld:%02lld:%02lld left", whole / 3600, whole / 60 % 60, whole % 60);
  return text;
}

std::string Measures(const nlohmann::ordered_json& row) {
  std::string text;
  for (const char* name : {"loss", "reward", "eval/accuracy"}) {
    if (!row.contains(name) || !row[name].is_number()) continue;
    text += std::string("  ") + name + Format(" %.4g", row[name]);
  }
  return text + Format("  %.0f tokens/s", row["tokens_per_second"]);
}

}  // namespace

Progress::Progress(std::int64_t steps) : steps_(steps), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', stderr);
}

void Progress::Show(const nlohmann::ordered_json& row) {
  const auto step = row["step"].get<std::int64_t>();
  const auto now = Clock::now();
  const auto since = [&](Clock::time_point then) { return std::chrono::duration<double>(now - then).count(); };
  const bool first = first_step_ < 0;
  if (first) first_step_ = step;
  const bool due = since(last_) >= (terminal_ ? kSecondsBetweenRedraws : kSecondsBetweenLines);
  if (!first && !due && step < steps_ && !row.contains("eval/accuracy")) return;
  last_ = now;

  const double per_step = since(start_) / static_cast<double>(step - first_step_ + 1);
  const double share = static_cast<double>(step) / static_cast<double>(steps_);
  const std::string text = "step " + std::to_string(step) + "/" + std::to_string(steps_) + Measures(row) + "  " +
                           TimeLeft(per_step * static_cast<double>(steps_ - step));
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  std::fprintf(stderr, "\r\033[K%s%s", Bar(share).c_str(), text.c_str());  // \033[K: clear to the end of the line
  line_open_ = true;
}

}  // namespace swarr
