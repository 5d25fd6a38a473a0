// SPDX-License-Identifier: Apache-2.0
// Sections of a study's page that have more in them than a table.
#pragma once

#include <string>
#include <vector>

#include "study/report.h"

namespace swarr {

// What the columns of these tables are, each once.
std::string GlossaryOf(const std::vector<TextTable>& tables);

// How every arm's training went, seed by seed; empty if no record has it.
std::string TrainingSection(const StudyResults& results);

// Whole traces of the problems that all arms with traces share, under the first seed; empty if there are none. Only
// the chain task's are drawn.
std::string TraceSection(const StudyResults& results);

// Where full attention looks in a trace, and where the window does before and after RL; empty if no record has it.
std::string AttentionSection(const StudyResults& results);

// An arm's mark as a picture for a line of text.
std::string ArmMark(const StudyResults& results, const std::string& arm);

}  // namespace swarr
