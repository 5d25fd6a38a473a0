// SPDX-License-Identifier: Apache-2.0
// What a study keeps of an arm that is trained and measured: all that its report and later arms need of it, but the
// weights. So a study goes on where it stopped from these files and settings.json alone, on another machine too.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "study/results.h"

namespace swarr {

struct ArmRecord {
  ArmRun run;             // its outcomes, and what Aggregate does not compute; the rest is undefined
  LearningCurve curve{};  // of RL; without points for other arms
  StudyChecks checks{};   // of its own training
  // The hashes of what it was made of (inputs.h); empty in older records.
  nlohmann::ordered_json inputs = nlohmann::ordered_json::object();
  double seconds = 0;  // that training and evaluation took, in the call that ended them
};

// results/<arm>-seed<k>.json.
std::filesystem::path RecordPath(const std::filesystem::path& output_dir, const std::string& arm, std::uint64_t seed);

// `study` tells apart studies of different settings; `traces` are of its task. Throws Error if the file can't be
// written.
void WriteRecord(const std::filesystem::path& path, const std::string& study, const ArmRecord& record,
                 const TraceRule& traces);

// Nothing if there is no such file, or if it is of another study. Throws Error, naming the file, if it is damaged.
std::optional<ArmRecord> ReadRecord(const std::filesystem::path& path, const std::string& study,
                                    const TraceRule& traces);

}  // namespace swarr
