// SPDX-License-Identifier: Apache-2.0
// What tests of a CUDA device print: that there is none, or what they found. Their names begin with "CUDA:", so that
// swarr-tests -tc='CUDA:*' runs them (tools/cuda-check.sh).
#pragma once

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "tensor/device.h"

namespace swarr {

// Says so where this build or this machine has no device; the test then ends.
inline bool SkippedWithoutCuda() {
  if (!CudaDeviceName().empty()) return false;
  std::cout << "skipped: no CUDA device\n";
  return true;
}

// One promise over many cases: a line for each case, and one for all of them at the end.
class Report {
 public:
  explicit Report(std::string promise) : promise_(std::move(promise)) {}
  ~Report() {
    std::cout << "CUDA " << promise_ << ": " << cases_ << " cases";
    for (const Number& n : largest_) std::cout << ", " << n.first << " at most " << Text(n.second);
    std::cout << std::endl;
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // Numbers that this promise is about, the same ones for each case.
  using Number = std::pair<const char*, double>;
  void Line(const std::string& name, const std::vector<Number>& numbers) {
    std::cout << "  " << promise_ << " | " << name;
    for (const Number& n : numbers) std::cout << " | " << n.first << " " << Text(n.second);
    std::cout << "\n";
    if (cases_++ == 0) largest_ = numbers;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      largest_[i].second = std::max(largest_[i].second, numbers[i].second);
    }
  }

 private:
  // Three digits, whatever doctest has told std::cout.
  static std::string Text(double x) {
    std::ostringstream text;
    text << std::setprecision(3) << x;
    return text.str();
  }

  std::string promise_;
  int cases_ = 0;
  std::vector<Number> largest_;
};

}  // namespace swarr
