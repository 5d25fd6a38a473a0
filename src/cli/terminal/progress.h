// SPDX-License-Identifier: Apache-2.0
// Progress on stderr: on a terminal one line with a bar that is written over and fits the terminal, otherwise a plain
// line every few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace swarr {

class Progress {
 public:
  // Of work that counts `unit`s. Shows nothing if `quiet`.
  explicit Progress(std::string unit, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` are done, and `more` is to be said of it. The rate is that since this was first called, so that
  // what a resume found done does not count. Shown when it is due and whenever it is `news`; the end too, if anything
  // was shown before or there is a terminal.
  void Show(std::int64_t done, std::int64_t total, const std::string& more = "", bool news = false);

  // A line that stays, quiet or not.
  void Say(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;
  std::string unit_;
  bool quiet_, terminal_;
  bool line_open_ = false, shown_ = false;
  std::int64_t first_ = -1;  // of the units that were done when this was first called
  Clock::time_point start_ = Clock::now(), last_;
};

}  // namespace swarr
