// SPDX-License-Identifier: Apache-2.0
// The colour and the mark of an arm, the same in every figure and table of a study.
#pragma once

#include "plot/svg.h"
#include "study/results.h"

namespace swarr {

// SA is blue and round, SWA vermillion and square; open before RL, filled after. Other arms have colours and shapes of
// their own, and those of one way share them.
SeriesStyle StyleIn(const StudyResults& results, const std::string& arm);

}  // namespace swarr
