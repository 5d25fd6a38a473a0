// SPDX-License-Identifier: Apache-2.0
#include "train/memory_room.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>

#include "base/check.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

// From here on a limit of a cgroup stands for none: v1 writes a number close to 2^63.
constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;

void ForLines(const fs::path& path, const std::function<void(const std::string&)>& see) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) see(line);
}

// The number behind `name` at the head of a line; nothing if there is none, or a word such as "max" or "unlimited".
std::optional<std::int64_t> NumberAfter(const fs::path& path, const std::string& name) {
  std::optional<std::int64_t> found;
  ForLines(path, [&](const std::string& line) {
    std::int64_t number = 0;
    if (line.starts_with(name) && std::istringstream(line.substr(name.size())) >> number) found = number;
  });
  return found;
}

std::int64_t KilobytesAfter(const fs::path& path, const std::string& name) {
  return 1024 * NumberAfter(path, name).value_or(0);
}

// What the two versions call the same things.
struct CgroupFiles {
  fs::path mount;
  const char *limit, *used;
  std::vector<std::string> reclaimable;  // in memory.stat: file pages, which the kernel gives back when it must
};

// The limits of the cgroup `path` and of all above it. In a container the path may name what is mounted at the root.
void AddCgroups(const CgroupFiles& files, const fs::path& path, std::int64_t swap, std::vector<MemoryRoom>& rooms) {
  for (fs::path at = path.relative_path();; at = at.parent_path()) {
    const fs::path dir = files.mount / at;
    const auto limit = NumberAfter(dir / files.limit, ""), used = NumberAfter(dir / files.used, "");
    if (limit && used && *limit < kNoLimit) {
      std::int64_t left = *limit - *used + swap;
      for (const std::string& name : files.reclaimable) left += NumberAfter(dir / "memory.stat", name).value_or(0);
      rooms.push_back(
          {.bytes = std::max<std::int64_t>(left, 0), .source = "the cgroup's " + (dir / files.limit).string()});
    }
    if (at.empty()) return;
  }
}

}  // namespace

std::vector<MemoryRoom> HostMemoryRooms(const fs::path& root) {
  std::vector<MemoryRoom> rooms;
  const fs::path proc = root / "proc", self = proc / "self", cgroups = root / "sys/fs/cgroup";
  const std::int64_t swap = KilobytesAfter(proc / "meminfo", "SwapFree:");
  if (NumberAfter(proc / "meminfo", "MemAvailable:")) {
    rooms.push_back({.bytes = KilobytesAfter(proc / "meminfo", "MemAvailable:") + swap, .source = "the machine"});
  }
  ForLines(self / "cgroup", [&](const std::string& line) {  // ID:CONTROLLERS:PATH
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) return;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (controllers == ",,") {
      AddCgroups({cgroups, "memory.max", "memory.current", {"active_file ", "inactive_file ", "slab_reclaimable "}},
                 path, swap, rooms);
    } else if (controllers.find(",memory,") != std::string::npos) {
      AddCgroups({cgroups / "memory",
                  "memory.limit_in_bytes",
                  "memory.usage_in_bytes",
                  {"total_active_file ", "total_inactive_file "}},
                 path, swap, rooms);
    }
  });
  const auto add_limit = [&](const std::string& name, const std::string& used, const std::string& source) {
    const auto limit = NumberAfter(self / "limits", name);  // the soft one comes first
    if (!limit) return;
    const std::int64_t left = std::max<std::int64_t>(*limit - KilobytesAfter(self / "status", used), 0);
    rooms.push_back({.bytes = left, .source = source, .counts_unwritten = true});
  };
  add_limit("Max address space", "VmSize:", "ulimit -v");
  add_limit("Max data size", "VmData:", "ulimit -d");
  return rooms;
}

}  // namespace swarr
