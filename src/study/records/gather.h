// SPDX-License-Identifier: Apache-2.0
// Puts the records of a study together.
#pragma once

#include "study/records/record.h"
#include "study/study.h"

namespace swarr {

// Tells apart studies of different settings; names of arms and ways are none of these.
std::string StudyId(const StudySettings& settings);

// Tells apart what was trained or sampled under different settings or from different inputs.
std::string MakingId(const StudySettings& settings);

// The record of the arm under the seed that `settings` has; nothing if there is none of this study. Throws Error for
// one of other inputs.
std::optional<ArmRecord> FindRecord(const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm);

// Adds what was recorded of an arm to the results. `layers` is the model's.
void AddRecord(const StudySettings& settings, const ArmPlan& arm, int layers, ArmRecord record, StudyResults& results);

// Adds all records of the seed that `settings` has; arms without one are named in results.missing.
void GatherSeed(const StudyOptions& options, const StudySettings& settings, int layers, StudyResults& results);

// What sequences cost, as an earlier report in the directory has it; nothing if there is none.
std::vector<CostPoint> CostOfReport(const std::filesystem::path& directory);

}  // namespace swarr
