#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the chain task's rollouts number their ninth step, and whether they stop after it.

    python3 tools/step_numbers.py ROLLOUTS.jsonl[.gz] [--every 10]

Rollouts are rows {step, prompt, completion}, as `rl` writes them to completions/ of its run; docs/results/shares has those
of one run. Counted are completions without restatements that have nine steps or more, for so many steps of RL at a time: of
problems whose n ends in 9, and of the others, how many there are, how many give the ninth step another number than 09, and
how many of these stop there. Answers are judged by the last value alone, so nothing asks for right numbers.
"""

import argparse
import collections
import gzip
import json


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rollouts")
    parser.add_argument("--every", type=int, default=10, help="steps of RL in a row of the table")
    options = parser.parse_args()
    counts = collections.defaultdict(collections.Counter)
    with (gzip.open if options.rollouts.endswith(".gz") else open)(options.rollouts, "rt") as file:
        for row in map(json.loads, file):
            text = row["completion"]
            numbers = [text[max(0, i - 2):i] for i, sign in enumerate(text) if sign == ":"]
            if "[" in text or len(numbers) < 9:
                continue
            count, group = counts[(row["step"] - 1) // options.every], "9" if row["prompt"][6] == "9" else "other"
            count[group, "traces"] += 1
            if numbers[8] != "09":
                count[group, "renumbered"] += 1
                count[group, "stops"] += len(numbers) == 9
    print("| steps of RL | n ends in 9: traces | renumbered | of these stop | other n: traces | renumbered | of these stop |")
    print("|---|---|---|---|---|---|---|")
    for part, count in sorted(counts.items()):
        cells = [count[group, what] for group in ("9", "other") for what in ("traces", "renumbered", "stops")]
        print(f"| {part * options.every + 1} to {(part + 1) * options.every} | {' | '.join(map(str, cells))} |")


main()
