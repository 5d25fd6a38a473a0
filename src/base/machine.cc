// SPDX-License-Identifier: Apache-2.0
#include "base/machine.h"

#include <fstream>

namespace swarr {

std::string ProcessorModel() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t at = line.find(": ");
    if (line.starts_with("model name") && at != std::string::npos) return line.substr(at + 2);
  }
  return "unknown processor";
}

}  // namespace swarr
