#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When arms of a chain study restate: how often a step restates, by how many steps lie between it and the last mention.

    python3 tools/restating_by_age.py docs/results/full/outcomes.jsonl.gz [--arms swa_sft,swa_rl] [--least 100]
    python3 tools/restating_by_age.py docs/results/full/outcomes.jsonl.gz --placement [--bases 3]

Reads the outcomes of all seeds. A trace that restates at random does so equally often everywhere; one that times it restates
when its facts are about to leave its reach, after the 7th step of a run where 45 tokens are in reach. The number of steps since
the prompt or the last restatement is 0 for a trace's first step alone, since a step follows every restatement. Truncated
traces are left out; a cell of fewer than --least steps is a dash.

--placement asks what the timing is worth: g, the share of traces in reach of 45 tokens, less the share that traces of as many
steps would have that restate at random at the seed's own rate. With 95% t intervals over seeds, or over the means of
the seeds of a base model (seed k starts from the k-th of --bases, in turn).
"""

import argparse
import collections
import functools
import gzip
import json
import statistics

AGES = range(11)
COPIED_AFTER, SEEN_AFTER = 7, 8  # the most steps since n was stated with which it can be copied, and be seen to stop or go on
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}  # two-sided 95% points by degrees of freedom


@functools.lru_cache(maxsize=None)
def in_reach_at_random(steps, rate):
    """The probability that a trace of this many steps, each restated before with this probability, keeps n in reach."""
    by_age = {0: 1.0}  # of the traces in reach so far, by the steps since n was stated
    for _ in range(steps):
        after = collections.defaultdict(float)
        for age, share in by_age.items():
            if age <= COPIED_AFTER:
                after[1] += share * rate
            if age < SEEN_AFTER:
                after[age + 1] += share * (1 - rate)
        by_age = after
    return sum(by_age.values())


def placement(rows):
    """g of one seed's traces, and what they would have if each step were restated at random at their rate."""
    rate = sum(row["restatements"] for row in rows) / sum(row["steps_written"] for row in rows)
    expected = statistics.mean(in_reach_at_random(row["steps_written"], rate) for row in rows)
    return sum(row["in_reach"] for row in rows) / len(rows), expected


def interval(values):
    mean, freedom = statistics.mean(values), len(values) - 1
    half = STUDENT[freedom] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def print_placement(arms, bases):
    print("| arm | g | at random | less it | each seed |\n|---|---|---|---|---|")
    for arm, rows in arms.items():
        seeds = collections.defaultdict(list)
        for row in rows:
            seeds[row["seed"]].append(row)
        shares = {seed: placement(seeds[seed]) for seed in sorted(seeds)}
        excess = {seed: g - expected for seed, (g, expected) in shares.items()}
        groups = collections.defaultdict(list)
        for seed, value in excess.items():
            groups[seed % bases if bases else seed].append(value)
        means = [statistics.mean(column) for column in zip(*shares.values())]
        print(f"| {arm} | {means[0]:.3f} | {means[1]:.3f} | {interval([statistics.mean(group) for group in groups.values()])} | "
              + ", ".join(f"{value:.3f}" for value in excess.values()) + " |")


def print_ages(arms, least):
    print("| arm | " + " | ".join(map(str, AGES)) + " |")
    print("|---" * (len(AGES) + 1) + "|")
    for arm, rows in arms.items():
        steps, restated = collections.Counter(), collections.Counter()
        for runs in (row["runs"] for row in rows):
            for i, run in enumerate(runs):
                ended = i + 1 < len(runs)  # by a restatement; the last run ends with the answer
                for age in range(min(i, 1), run):
                    steps[age] += 1
                if ended and run >= min(i, 1):
                    steps[run] += 1
                    restated[run] += 1
        cells = [f"{restated[age] / steps[age]:.2f}" if steps[age] >= least else "-" for age in AGES]
        print(f"| {arm} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes")
    parser.add_argument("--arms", help="only these, with commas between them")
    parser.add_argument("--least", type=int, default=100)
    parser.add_argument("--placement", action="store_true")
    parser.add_argument("--bases", type=int, help="intervals over the means of this many base models")
    options = parser.parse_args()
    arms = {arm: [] for arm in options.arms.split(",")} if options.arms else collections.defaultdict(list)
    with (gzip.open if options.outcomes.endswith(".gz") else open)(options.outcomes, "rt") as file:
        for row in map(json.loads, file):
            if not row["truncated"] and row["runs"] and (not options.arms or row["arm"] in arms):
                arms[row["arm"]].append(row)
    if options.placement:
        print_placement(arms, options.bases)
    else:
        print_ages(arms, options.least)


main()
