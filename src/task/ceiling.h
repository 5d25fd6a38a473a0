// SPDX-License-Identifier: Apache-2.0
// The receptive-field ceiling of the chain task: the best accuracy that any model with sliding-window attention can
// have on traces that restate the facts before each step with probability p. It needs no training.
//
// Assumption: with L layers of window W (which counts the current token) nothing older than the reach R = L (W - 1)
// tokens is known at a query, and everything else is. A trace is good if every needed fact (task/chain.h) lies
// within R of its query; a model is right on good traces and guesses on the others, which is right once in 13:
//
//   ceiling(n) = g_n + (1 - g_n) / 13,   g_n = P(a trace of n steps is good)
//
// Not considered: solving a and b from successive values in view (lifts a model above the line), and attention sinks.
//
// Why a short recurrence gives g_n exactly. Where the facts were last mentioned in the prompt, a lies 5k + 6 tokens
// before the ':' of the k-th step since; where in a restatement, 5k + 4. Of the facts a is always the oldest: b lies 2
// nearer, and n at the decision to stop after k steps 3 nearer (5k + 3 and 5k + 1). So a trace is good iff its first
// run (the steps before any restatement) has at most K0 = floor((R - 6) / 5) steps and every later run at most
// K1 = floor((R - 4) / 5), 0 where negative. Let r be the number of further steps that the current mention can serve,
// r = K0 at the start. A step restates with probability p and leaves r = K1 - 1, or goes on with r - 1; a step that
// would make r negative ends the trace's goodness. g_n is the probability that is left after n steps.
#pragma once

#include <vector>

namespace swarr {

// ceiling(n) for n = n_min .. n_max. `restate_probability` may be a measured rate of restatements per step; above 1 it
// counts as 1. Throws Error unless layers >= 1, window >= 1 (full attention has no ceiling), restate_probability >= 0
// and 1 <= n_min <= n_max.
std::vector<double> ReceptiveFieldCeilingBySteps(int layers, int window, double restate_probability, int n_min,
                                                 int n_max);

// The mean of the above: the ceiling for n uniform over n_min .. n_max.
double ReceptiveFieldCeiling(int layers, int window, double restate_probability, int n_min, int n_max);

}  // namespace swarr
