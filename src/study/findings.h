// SPDX-License-Identifier: Apache-2.0
// What a study's numbers say, in plain text: the table and sentences. Every statement is derived from the numbers; a
// result that goes against expectation is said as plainly as one that meets it.
#pragma once

#include <string>
#include <vector>

#include "study/results.h"

namespace swarr {

// SA accuracy from which on a gap may be hidden or shrunk by SA being unable to get better.
constexpr double kSaturated = 0.97;

// The cells of the table: a header, then one row per arm, means over seeds.
struct FindingsTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};
FindingsTable TableOfArms(const StudyResults& results);

// One row for every arm and seed.
FindingsTable TableOfRuns(const StudyResults& results);

// What was run: preset, seeds, problems, model and window, steps, device, time.
std::string Headline(const StudyResults& results);

// Label and value: data ceiling, gaps, recovery, exactness.
std::vector<std::pair<std::string, std::string>> KeyNumbers(const StudyResults& results);

// Sentences. Differences count as such if their 95% interval excludes 0.
std::vector<std::string> Findings(const StudyResults& results);

// "0.512", "n/a" if not finite; "0.512 [0.481, 0.543]" without the interval where it is undefined.
std::string FormatNumber(double value, int decimals = 3);
std::string FormatEstimate(const Estimate& estimate);

}  // namespace swarr
