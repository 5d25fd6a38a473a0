// SPDX-License-Identifier: Apache-2.0
// What every training loop owes whoever stops it: tests/training_test.cc and tests/rl_test.cc walk through it.
#pragma once

#include <functional>

#include "test_models.h"
#include "train/run.h"

namespace swarr {

// Trains a trainee to the end of a run of kResumeSteps steps, with these options of the run.
using Training = std::function<void(Trainee&, const RunOptions&)>;
constexpr int kResumeSteps = 7;

RunOptions In(const std::filesystem::path& output_dir);

// In f64, f32 and bf16: a run that is interrupted and resumed, and one that is killed (with a line of metrics
// half-written) and resumed, end with the state, the metrics and the model files of a run that was left alone, bit for
// bit.
void CheckExactResume(const ModelConfig& config, const OptimizerOptions& options, const Training& train);

}  // namespace swarr
