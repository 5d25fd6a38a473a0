// SPDX-License-Identifier: Apache-2.0
// Which machine this is, and how pages write the time.
#pragma once

#include <ctime>
#include <string>

namespace swarr {

// The processor's name as the system has it; "unknown processor" where it has none.
std::string ProcessorModel();

// How many processes computed or waited for a processor, the system's mean of the last minute; NaN where it has none.
double SystemLoad();

// "2026-11-29 17:05 UTC"
std::string UtcText(std::time_t time);

}  // namespace swarr
