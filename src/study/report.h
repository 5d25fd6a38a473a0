// SPDX-License-Identifier: Apache-2.0
// A study's report: plain text for the terminal, one self-contained HTML file, and everything in a folder.
#pragma once

#include <filesystem>
#include <string>

#include "study/results.h"

namespace swarr {

// The table, the key numbers and the findings, in lines of at most 100 columns (for arm names of up to 32).
std::string TerminalReport(const StudyResults& results);

// The same with figures, settings, limits and how to redo it. The page needs no network and no scripts.
std::string HtmlReport(const StudyResults& results);

// Writes results.json, outcomes.jsonl, report.html and the figures (figures/*.svg) into `directory`. Each file is
// written completely or not at all; folders are created as needed. Throws Error if a file can't be written.
void WriteReport(const StudyResults& results, const std::filesystem::path& directory);

}  // namespace swarr
