// SPDX-License-Identifier: Apache-2.0
// One seed of a study: its arms, trained and evaluated in the order of its file.
#pragma once

#include "study/study.h"

namespace swarr {

// Throws Interrupted if the study has been asked to stop. Runs stop in good order by themselves; this is for what
// stands between them.
void StopIfAsked(const StudyOptions& options);

// EvaluateOptions::on_progress of a study; nothing where nobody asks.
std::function<void(std::int64_t, std::int64_t)> CompletionsOf(const StudyOptions& options);

// Runs all arms of the seed that `settings` has, and adds what they gave to `results`. `again`: what runs there are is
// replaced, not continued.
void RunSeed(Context& ctx, const StudyOptions& options, const StudySettings& settings, bool again,
             StudyResults& results);

}  // namespace swarr
