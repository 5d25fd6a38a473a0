// SPDX-License-Identifier: Apache-2.0
// What sliding-window attention leaves possible on the chain task. Two lines, which need no training:
//
//   the reach bound          for every policy, from where its own traces lose what they need;
//   the memoryless ceiling   for a policy that restates the facts before each step with probability p, whatever it
//                            wrote before, as the SFT data do. It bounds no other policy.
//
// Reach. With L layers of window W (which counts the current token) nothing older than R = L (W - 1) tokens is known at
// a query: W - 1 tokens are seen directly, and each further layer relays what was known W - 1 tokens earlier
// (docs/attention.md).
//
// What a trace needs is n. The values in view give the map away: z - y = a (y - x) for three in succession, and no two
// in succession are equal. At the ':' of a step the last three lie 4, 9 and 14 tokens back, 9 more with a restatement
// between, which states a and b itself; before there are three, a and b are at most 16 back. So with R >= 16 neither a
// nor b is ever lost. (With less reach they can be, which isn't asked for: the bound is generous there.) Nothing but
// its mention tells n, and a trace uses n
//
//   where it goes on or stops   after k steps since the prompt the query lies 5k + 3 tokens from n's last digit, since
//                               a restatement 5k + 1;
//   where it restates n         there the query that copies that digit lies 5k + 10 and 5k + 8 tokens from it.
//
// A trace is *in reach* if each of these distances is at most R. Hence no run of steps is longer than K0 =
// floor((R - 3) / 5) from the prompt, K1 = floor((R - 1) / 5) from a restatement, and no run that a restatement ends
// than C0 = floor((R - 10) / 5), C1 = floor((R - 8) / 5): with R = 45 8, 8, 7 and 7. It is judged by what it placed
// where, right or wrong:
//   - a step counts whatever number and value it has; one that was left out needs nothing;
//   - a restatement counts whatever it says: to copy it wrongly is a lack of competence, not of sight. One that no step
//     follows needs nothing;
//   - an empty trace needs nothing: it is in reach.
//
// What a guess is worth. A trace that is out of reach saw n for the last time after t steps, and went on: n > t. What
// is left are the m = n_max - max(t, n_min - 1) last numbers. Orbits have length 12, so the value x_k answers for n iff
// k = n modulo 12, and of m numbers in succession at most ceil(m / 12) agree modulo 12. So no rule is right more often
// than
//
//   guess(t) = ceil(m / 12) / m    (1 for m < 1)
//
// which is never less than 1/12, is 1/12 exactly for m = 12 (n up to 20 and t = 8) and grows as fewer numbers are left:
// who goes on after 19 of at most 20 steps knows n. Hence for every policy
//
//   accuracy <= (sum over its traces of 1 in reach, of guess(t) out of it) / their number.
//
// Where that can fail: n has to be uniform given the rest of the problem and the text, so a policy may not tell n in
// another form than a restatement (numbering steps backwards, or restating exactly where n is large). And the
// problems of a study are a sample, in which some n is commoner than 1/12 by chance, and share a, b and x0 with
// problems of training that have another n, which a policy could know by heart. Attention sinks are not considered.
//
// The memoryless ceiling is that bound for restating at random:
//
//   ceiling(n) = g_n + sum over t < n of lost_t guess(t)
//
// with g_n the probability that a trace of n steps is in reach and lost_t that one loses n after t steps. Both follow
// from a short recurrence: before step t + 1 a run of r steps ends in a restatement with probability p, which loses n
// if r > C, or goes on, which loses n if r + 1 > K. A single n can be guessed better than by this, at the cost of the
// others; the mean over n_min .. n_max is the bound. A policy that restates only when n is about to leave its reach
// needs one restatement in C1 steps and stands far above this line at its own rate.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace swarr {

// R in tokens. Throws Error unless layers >= 1 and window >= 1 (the reach of full attention has no end).
std::int64_t ReachOf(int layers, int window);

// After how many steps a trace with these runs (TraceMeasures) has seen n for the last time. Nothing if it is in reach.
std::optional<int> LosesAfter(std::span<const int> runs, std::int64_t reach);

// guess(t) above. Throws Error unless n_min <= n_max.
double GuessAfter(int t, int n_min, int n_max);

// g + (1 - g) guess: the bound of any task, where an answer out of reach is right with probability `guess`.
double ReachBound(double share_in_reach, double guess);

// ceiling(n) for n = n_min .. n_max; their mean is the ceiling. `restate_probability` may be a measured rate of
// restatements per step; above 1 it counts as 1. Throws Error where ReachOf does, and unless restate_probability >= 0
// and 1 <= n_min <= n_max.
std::vector<double> MemorylessCeilingBySteps(int layers, int window, double restate_probability, int n_min, int n_max);

}  // namespace swarr
