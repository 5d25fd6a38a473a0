// SPDX-License-Identifier: Apache-2.0
// How much memory this process can still get, and who says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace swarr {

// What is left under one limit.
struct MemoryRoom {
  std::int64_t bytes = 0;
  std::string source{};  // whose limit it is, for a sentence
  // Whether the limit counts all that is asked of the system, as ulimit and a device do. The others count memory from
  // when it is written.
  bool counts_unwritten = false;
};

// The limits of this process on the processor's memory, read from files under `root`:
//   proc/meminfo                          MemAvailable and SwapFree
//   proc/self/cgroup, sys/fs/cgroup       memory.max (v2) or memory.limit_in_bytes (v1) of its cgroup and of all above
//                                         it, less what they use and can't give back, plus SwapFree
//   proc/self/limits, proc/self/status    ulimit -v (address space) and ulimit -d (data), less what the process has
// A file that is not there or can't be read sets no limit. Cgroups are looked for where systemd mounts them.
std::vector<MemoryRoom> HostMemoryRooms(const std::filesystem::path& root = "/");

}  // namespace swarr
