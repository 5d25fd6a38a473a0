// SPDX-License-Identifier: Apache-2.0
// The files of a run's directory, by name (train/run.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace swarr {

inline constexpr const char* kMetricsFile = "metrics.jsonl";
inline constexpr const char* kConfigFile = "resolved_config.json";
inline constexpr const char* kRunFile = "run.json";
inline constexpr const char* kCompletions = "completions";  // a directory

// The file of the completions that step `step`, from 1, has sampled.
std::filesystem::path CompletionsPath(const std::filesystem::path& run, std::int64_t step);

// The files of sampled completions that a run has written.
std::vector<std::filesystem::path> CompletionsOf(const std::filesystem::path& run);

void Append(const std::filesystem::path& path, const std::string& bytes);

}  // namespace swarr
