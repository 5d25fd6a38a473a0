// SPDX-License-Identifier: Apache-2.0
// How far back the facts lie that the steps of a chain-task completion need. These are the study's measures of
// mechanism, defined for any text of any policy, well-formed or not.
//
// Positions count the prompt: character i of the completion is at kPromptLength + i. A query is the position from which
// a token is predicted, one before it. Needed facts:
//   a and b   at every ':' (the query that predicts a step's value);
//   n         at the token before the last '#' (the query that decides to stop; the last ',' in traces of TraceOf).
// A fact's mention is its digit (the last one, for n) in the prompt or in a well-formed restatement that gives that
// fact its right value; a wrong value is no mention. Distance = query - position of the last mention before the query.
// A layer whose window W counts the current token sees the mention directly iff distance < W.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "task/chain.h"

namespace swarr {

struct TraceMeasures {
  int length = 0;              // characters, thus tokens, without end of text
  int steps = 0;               // number of ':'
  int restatements = 0;        // number of '[', well-formed or not
  std::vector<int> distances;  // a, b for each step in order; then n if the text has a '#'
};

// Never throws for any `completion` (given without end of text).
TraceMeasures MeasureTrace(const ChainProblem& problem, std::string_view completion);

// How many of the needed facts lie inside the window. Window 0 means full attention: all of them. Attention sinks are
// not considered. Throws Error for a negative window.
int FactsInWindow(const TraceMeasures& measures, int window);

// Ratios are pooled over traces, so that a long trace weighs more. A ratio without a denominator (no step, no needed
// fact, no trace) is 0.
struct MechanismSummary {
  double restatement_rate = 0;          // restatements per step
  double dependency_distance_mean = 0;  // tokens
  double facts_in_window = 0;           // share of the needed facts
  double mean_length = 0;               // tokens a trace
};

MechanismSummary SummarizeMechanism(std::span<const TraceMeasures> traces, int window);

}  // namespace swarr
