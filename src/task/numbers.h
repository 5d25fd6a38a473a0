// SPDX-License-Identifier: Apache-2.0
// The numbers of worked solutions in free text: which of them a line takes from before it, and how far back they were
// last mentioned. Nothing is known of the problem but its text, so this holds for GSM8K and the like.
//
//   [36 seeds; 96 rolls; 8 plain rolls]                       a bracket: a line of its own, in square brackets
//   Of the 96 rolls, 36 had seeds, so 96-36=60.               a line, which uses 96, 36, 96, 36 and makes 60
//   #### 60                                                   the end; nothing behind it counts
//
// A number with a word character or a dot before it is none. Thousands may have commas, a currency's sign before it or
// % behind it belongs to it. 40% is 40 and 0.4 as well: two numbers are the same if they share a value. A line uses the
// numbers in it that do not stand behind "=".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "task/traces.h"

namespace swarr {

// What a completion places and needs.
struct NumberMeasures {
  int lines = 0, brackets = 0;
  int carried = 0;                        // numbers in brackets
  int used = 0;                           // numbers that lines use
  std::vector<std::int64_t> distances{};  // tokens from the query of each used number that the prompt, a bracket or an
                                          // earlier place of a line has mentioned, to its last mention
};

// `starts` are the bytes of prompt + text at which tokens begin, from 0 on, ascending. The query of a number is the
// token before the one that holds its first byte.
NumberMeasures MeasureNumbers(std::string_view prompt, std::string_view text, std::span<const std::size_t> starts);

// How many lines a solution has: brackets and the end are none.
int SolutionLines(std::string_view solution);

// Of rows with a text as prompt, and a solution as completion, whose lines are the problem's size (kMostSolutionLines
// stands for more). A trace is in reach if no distance is above the reach; `guess` is what an answer is worth beyond
// it. A used number that nothing has mentioned, as the 60 minutes of an hour or a wrong copy, has no distance.
TraceRule NumberTraces(double guess);

constexpr int kMostSolutionLines = 8;

}  // namespace swarr
