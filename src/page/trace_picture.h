// SPDX-License-Identifier: Apache-2.0
// Whole traces of the chain task as pictures, with a line from every use of a fact to where it was last stated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "task/chain.h"

namespace swarr {

// What the lines are, in a sentence or two for the reader of a page.
extern const std::string_view kTraceKey;

// How far a model sees: `window` tokens in each layer, the current one included, `reach` back by all layers together.
// Window 0 is full attention.
struct Sight {
  int window = 0;
  std::int64_t reach = 0;
};

// The problem that the prompt states; nothing if it is none of the chain task.
std::optional<ChainProblem> ChainProblemIn(const std::string& prompt);

// "x = (7 x + 3) mod 13 from 5, 10 steps; the answer is 4"
std::string ChainProblemInWords(const ChainProblem& problem);

// Where facts stand in prompt and completion: the first letter and the number of letters of the prompt's facts and of
// each restatement.
std::vector<std::pair<std::size_t, std::size_t>> FactSpans(std::string_view text);

// The prompt and its completion, as SVG.
std::string TracePicture(const ChainProblem& problem, const std::string& completion, const Sight& sight);

// "80 tokens, 3 restatements, 30 of 41 used facts inside the window of 16, in reach"
std::string TraceInWords(const ChainProblem& problem, const std::string& completion, const Sight& sight);

}  // namespace swarr
