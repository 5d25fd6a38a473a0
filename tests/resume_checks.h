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

// In f64, f32 and bf16, of a hybrid model: a run that is interrupted and resumed, and one that is killed (with a line
// of metrics half-written) and resumed, end with the state, the metrics and the model files of a run that was left
// alone, bit for bit.
void CheckExactResume(Device device, const Training& train);

// The same of two runs that are left alone, and their checkpoints.
void CheckRepeats(Device device, const Training& train);

}  // namespace swarr
