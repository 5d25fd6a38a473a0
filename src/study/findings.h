// SPDX-License-Identifier: Apache-2.0
// What a study's numbers say, in plain text: the tables and sentences. Every statement follows from the numbers. A
// result against expectation is told as plainly as one that meets it.
#pragma once

#include <string>
#include <vector>

#include "study/results.h"

namespace swarr {

struct FindingsTable {
  std::vector<std::string> header{};
  std::vector<std::vector<std::string>> rows{};
};
FindingsTable TableOfArms(const StudyResults& results);  // one row per arm: means over seeds
FindingsTable TableOfRuns(const StudyResults& results);  // one row per arm and seed

// What was run: preset, seeds, problems, model and window, steps, device, time.
std::string Headline(const StudyResults& results);

// Label and value: data ceiling, gaps, recovery, exactness.
std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results);

// Sentences. A difference counts only if its 95% interval excludes 0.
std::vector<std::string> Findings(const StudyResults& results);

std::size_t SeedCount(const StudyResults& results);

// "0.512", or "n/a" if not finite; "0.512 [0.481, 0.543]", without the interval where that is undefined.
std::string FormatNumber(double value, int decimals = 3);
std::string FormatEstimate(const Estimate& estimate);

}  // namespace swarr
