#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Placement and competence by what one layer sees: from a study's outcomes on word problems, as a table.

    python3 tools/sight.py docs/results/real-96/outcomes.jsonl.gz --window 96

A trace is in sight if all that its lines need was last mentioned less than W tokens before, rightly or not (`farthest`).
The share of such traces, and the accuracy on them and on the others, over the traces of all seeds.
"""

import argparse
import collections
import gzip
import json


def share(rows, field="correct_sampled"):
    return sum(row[field] for row in rows) / len(rows) if rows else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes")
    parser.add_argument("--window", type=int, required=True)
    options = parser.parse_args()
    arms = collections.defaultdict(list)
    with (gzip.open if options.outcomes.endswith(".gz") else open)(options.outcomes, "rt") as file:
        for line in file:
            row = json.loads(line)
            arms[row["arm"]].append(row)
    print("| arm | accuracy | in sight | accuracy in sight (traces) | out of sight (traces) |\n|---|---|---|---|---|")
    for arm, rows in arms.items():
        seen = [row for row in rows if row["farthest"] < options.window]
        rest = [row for row in rows if row["farthest"] >= options.window]
        print(f"| {arm} | {share(rows):.3f} | {len(seen) / len(rows):.3f} | {share(seen):.3f} ({len(seen)}) | "
              f"{share(rest):.3f} ({len(rest)}) |")


main()
