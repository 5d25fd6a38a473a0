// SPDX-License-Identifier: Apache-2.0
// The study's figures, each an SVG drawn from StudyResults.
#pragma once

#include <string>
#include <vector>

#include "study/results.h"

namespace swarr {

struct Figure {
  std::string file;     // name of the SVG file, without folder
  std::string caption;  // plain text: what is drawn and how to read it
  std::string svg;
};

// In this order: accuracy against restatement rate (the central one), accuracy by number of steps, learning curves of
// RL, cost against length. The last two are left out where there are no curves or no cost.
std::vector<Figure> StudyFigures(const StudyResults& results);

}  // namespace swarr
