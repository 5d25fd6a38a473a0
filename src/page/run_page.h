// SPDX-License-Identifier: Apache-2.0
// A page of runs side by side: what they are and how far they have come, their curves in shared panels, what they
// measured, the settings in which they differ, single completions, and the commands that repeat them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "page/run_output.h"
#include "page/settings.h"

namespace swarr {

inline constexpr const char* kRunPageGenerator = "swarr report";
constexpr std::size_t kMostOutputs = 256;          // that a page shows
constexpr std::size_t kMostPageBytes = 2'000'000;  // that it has then

// `outputs`: at least one. Links lead from `folder`, where the page is to be; `source` says where it comes from. Throws
// Error if there are more than kMostOutputs.
std::string RunPage(const std::vector<RunOutput>& outputs, const std::filesystem::path& folder, const Settings& source);

}  // namespace swarr
