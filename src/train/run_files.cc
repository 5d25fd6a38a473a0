// SPDX-License-Identifier: Apache-2.0
#include "train/run_files.h"

#include <cstdio>

#include "base/files.h"
#include "base/paths.h"
#include "train/checkpoint.h"

namespace swarr {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCompletionsPrefix = "step-";

}  // namespace

fs::path CompletionsPath(const fs::path& run, std::int64_t step) {
  return run / kCompletions / (StepName(kCompletionsPrefix, step) + ".jsonl");
}

std::vector<fs::path> CompletionsOf(const fs::path& run) {
  std::vector<fs::path> found;
  if (!Exists(run / kCompletions)) return found;
  for (const fs::directory_entry& e : fs::directory_iterator(run / kCompletions)) {
    const std::string name = e.path().filename().string();
    if (name.starts_with(kCompletionsPrefix) && name.ends_with(".jsonl")) found.push_back(e.path());
  }
  return found;
}

void Append(const fs::path& path, const std::string& bytes) {
  const FileHandle file(std::fopen(path.c_str(), "ab"));
  const bool written =
      file && std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size() && std::fflush(file.get()) == 0;
  SWARR_CHECK(written, "can't append to ", path.string(), "; is the disk full or the directory read-only?");
}

}  // namespace swarr
