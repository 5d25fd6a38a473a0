// SPDX-License-Identifier: Apache-2.0
// Sections of a page of runs; each is empty where the outputs have nothing of it.
#pragma once

#include <string>
#include <vector>

#include "page/run_output.h"

namespace swarr {

using RunOutputs = std::vector<RunOutput>;

// The line that stands for an output, as a picture for a line of text.
std::string LineMark(const RunOutputs& outputs, const RunOutput& output);

// The curves of training, of all outputs in the same panels: one figure for SFT, one for RL.
std::string CurveSection(const RunOutputs& outputs);

// The last steps of every run in numbers.
std::string LastStepSection(const RunOutputs& outputs);
std::string WarningSection(const RunOutputs& outputs);
std::string EvaluationSection(const RunOutputs& outputs);
// The settings in which outputs of one command differ, and those that they share.
std::string SettingSection(const RunOutputs& outputs);
// Some completions of each.
std::string CompletionSection(const RunOutputs& outputs);

}  // namespace swarr
