// SPDX-License-Identifier: Apache-2.0
// How the model of an arm is measured.
#pragma once

#include <string>

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "study/study.h"

namespace swarr {

// One sample at temperature 1 and one greedy completion of each evaluation problem, and one sample of each longer
// problem if the study has these. Sets what the run is of, its outcomes and `longer`.
ArmRun MeasureArm(Context& ctx, const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm,
                  const Transformer& model, const Tokenizer& tokenizer);

// Computes the measures of a run from its outcomes. `layers` is the model's.
void CompleteRun(ArmRun& run, const StudySettings& settings, const ArmPlan& arm, int layers);

// "cpu", or the name of the CUDA device.
std::string DeviceName(Device device);

}  // namespace swarr
