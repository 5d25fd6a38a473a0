// SPDX-License-Identifier: Apache-2.0
// What sliding-window attention leaves possible on the chain task. Two lines, which need no training:
//
//   the reach bound          for every policy, from the share g of its own traces that are in reach;
//   the memoryless ceiling   for a policy that restates the facts before each step with probability p, whatever it
//                            wrote before, as the SFT data do. It bounds no other policy.
//
// Reach. With L layers of window W (which counts the current token) nothing older than R = L (W - 1) tokens is known at
// a query: W - 1 tokens are seen directly, and each further layer relays what was known W - 1 tokens earlier
// (docs/attention.md). A trace is *in reach* if every step finds the facts stated at most R tokens before its query:
// its first run of steps, before any restatement, has at most K0 steps, and the run after each restatement at most K1
// (below). A trace is judged by what it placed where, right or wrong:
//   - a step counts whatever number and value it has; one that was left out needs nothing;
//   - a restatement counts whatever it says: to copy it wrongly is a lack of competence, not of sight;
//   - an empty trace needs nothing: it is in reach.
//
// The reach bound. Out of reach the answer is a guess, which is right once in 13. Hence for every policy
//
//   accuracy <= g + (1 - g) / 13,   g = the share of its traces that are in reach.
//
// Two things can lift a policy above it: inference from values in view (successive values give a and b away, and none
// equals its predecessor), and facts written in another form than a restatement. The study says where that happens. The
// bound is generous in one respect: a restatement must itself be copied from a mention in reach, which isn't asked for.
// Attention sinks are not considered.
//
// The memoryless ceiling is the reach bound of restating at random:
//
//   ceiling(n) = g_n + (1 - g_n) / 13,   g_n = P(a trace of n steps is in reach) at rate p.
//
// A policy that restates only when the facts are about to leave its reach needs one restatement in about K1 steps
// (below), and stands far above this line at its own rate.
//
// Why a short recurrence gives g_n exactly. Where the facts were last mentioned in the prompt, a lies 5k + 6 tokens
// before the ':' of the k-th step since; where in a restatement, 5k + 4. Of the facts a is always the oldest: b lies 2
// nearer, and n at the decision to stop after k steps 3 nearer (5k + 3 and 5k + 1). So the first run of a trace in
// reach has at most K0 = floor((R - 6) / 5) steps and every later run at most K1 = floor((R - 4) / 5), 0 where
// negative. Let r be the number of further steps that the current mention can serve, r = K0 at the start. A step
// restates with probability p and leaves r = K1 - 1, or goes on with r - 1; a step that would make r negative puts the
// trace out of reach. g_n is the probability that is left after n steps.
#pragma once

#include <cstdint>
#include <vector>

#include "task/chain.h"

namespace swarr {

// R in tokens. Throws Error unless layers >= 1 and window >= 1 (the reach of full attention has no end).
std::int64_t ReachOf(int layers, int window);

bool InReach(const TraceMeasures& measures, std::int64_t reach);

// g + (1 - g) guess: the reach bound of any task, where an answer out of reach is right with probability `guess`.
double ReachBound(double share_in_reach, double guess);

// ceiling(n) for n = n_min .. n_max. `restate_probability` may be a measured rate of restatements per step; above 1 it
// counts as 1. Throws Error where ReachOf does, and unless restate_probability >= 0 and 1 <= n_min <= n_max.
std::vector<double> MemorylessCeilingBySteps(int layers, int window, double restate_probability, int n_min, int n_max);

// The mean of the above: the ceiling for n uniform over n_min .. n_max.
double MeanMemorylessCeiling(int layers, int window, double restate_probability, int n_min, int n_max);

}  // namespace swarr
