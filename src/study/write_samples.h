// SPDX-License-Identifier: Apache-2.0
// What an arm imitates that learns from the samples of another, or from its own.
#pragma once

#include <cstdint>
#include <filesystem>

#include "model/tokenizer.h"
#include "model/transformer.h"
#include "study/study.h"

namespace swarr {

// Draws the completions that `arm` asks for of `problems` by `model`, that of arm.samples_of, at temperature 1, and
// writes those that it keeps as rows (train/samples.h) into `file`. Returns how many tokens were drawn. Throws Error if
// none is kept.
std::int64_t WriteSamples(Context& ctx, const StudyOptions& options, const StudySettings& settings, const ArmPlan& arm,
                          const Transformer& model, const Tokenizer& tokenizer, const Task& problems,
                          const std::filesystem::path& file);

}  // namespace swarr
