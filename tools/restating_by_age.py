#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When arms of a chain study restate: how often a step restates, by how many steps lie between it and the last mention.

    python3 tools/restating_by_age.py docs/results/full/outcomes.jsonl.gz [--arms swa_sft,swa_rl] [--least 100]

Reads the outcomes of all seeds. A trace that restates at random does so equally often everywhere; one that times it restates
when its facts are about to leave its reach, after the 7th step of a run where 45 tokens are in reach. The number of steps since
the prompt or the last restatement is 0 for a trace's first step alone, since a step follows every restatement. Truncated
traces are left out; a cell of fewer than --least steps is a dash.
"""

import argparse
import collections
import gzip
import json

AGES = range(11)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes")
    parser.add_argument("--arms", help="only these, with commas between them")
    parser.add_argument("--least", type=int, default=100)
    options = parser.parse_args()
    wanted = options.arms.split(",") if options.arms else None
    steps, restated = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    with (gzip.open if options.outcomes.endswith(".gz") else open)(options.outcomes, "rt") as file:
        for row in map(json.loads, file):
            arm, runs = row["arm"], row["runs"]
            if row["truncated"] or (wanted and arm not in wanted):
                continue
            for i, run in enumerate(runs):
                ended = i + 1 < len(runs)  # by a restatement; the last run ends with the answer
                for age in range(min(i, 1), run):
                    steps[arm][age] += 1
                if ended and run >= min(i, 1):
                    steps[arm][run] += 1
                    restated[arm][run] += 1
    print("| arm | " + " | ".join(map(str, AGES)) + " |")
    print("|---" * (len(AGES) + 1) + "|")
    for arm in wanted or steps:
        cells = [f"{restated[arm][age] / steps[arm][age]:.2f}" if steps[arm][age] >= options.least else "-" for age in AGES]
        print(f"| {arm} | {' | '.join(cells)} |")


main()
