#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How often word problems' brackets copy rightly, by how many tokens lie between the copy and what it copies.

    python3 tools/copies_by_distance.py TOKENIZER.json ROLLOUTS.jsonl[.gz] [--arm swa_rl] [--step 80] [--width 8]

Rollouts are rows with prompt and completion, as `rl` writes them to completions/ of its run; docs/results/real has some.
An item of a bracket copies the last mention, in an earlier bracket or in the problem, of the same name's value or
statement, and is right if it says the same. The distance runs from the token before the item's content, which predicts
it, to the first token of what is copied: a layer of window W sees that iff distance < W. Needs the PyPI package tokenizers.
"""

import argparse
import bisect
import collections
import gzip
import json
import re

from tokenizers import Tokenizer

BRACKET = re.compile(r" \[ ([^\[\]]*) \]")
TOLD = re.compile(r"(\w+) are ([^;]*);")
TERSE = ((re.compile(r"(\d+) more than (\w+)"), r"\2 plus \1"), (re.compile(r"(\d+) fewer than (\w+)"), r"\2 minus \1"),
         (re.compile(r"(\d+) times (\w+)"), r"\2 times \1"))


def terse(told):
    for pattern, replacement in TERSE:
        told = pattern.sub(replacement, told)
    return told


def starts_of(tokenizer, text):
    return [begin for begin, _ in tokenizer.encode(text).offsets]


def items_of(completion):
    """Name, content and the content's place, of every item of every bracket."""
    for bracket in BRACKET.finditer(completion):
        at = bracket.start(1)
        for item in bracket.group(1).split("; "):
            name, _, content = item.partition(" ")
            if content:
                yield name, content, at + len(name) + 1
            at += len(item) + 2


def copies_of(tokenizer, row):
    """Distance, and whether it is right, of each copy."""
    prompt, completion = starts_of(tokenizer, row["prompt"]), starts_of(tokenizer, row["completion"])
    last = {}
    for told in TOLD.finditer(row["prompt"]):
        place = bisect.bisect_right(prompt, told.start(2)) - 1 - len(prompt)
        last[told.group(1), told.group(2).isdigit()] = place, terse(told.group(2))
    for name, content, at in items_of(row["completion"]):
        place = bisect.bisect_right(completion, at) - 1
        known = last.get((name, content.isdigit()))
        if known:
            yield place - 1 - known[0], content == known[1]
        last[name, content.isdigit()] = place, content


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokenizer")
    parser.add_argument("rollouts")
    parser.add_argument("--arm", help="of the rows that have one")
    parser.add_argument("--step", type=int, help="of RL")
    parser.add_argument("--width", type=int, default=8, help="tokens of a row of the table")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    right, count = collections.Counter(), collections.Counter()
    with (gzip.open if args.rollouts.endswith(".gz") else open)(args.rollouts, "rt") as file:
        for row in map(json.loads, file):
            if args.arm not in (None, row.get("arm")) or args.step not in (None, row["step"]):
                continue
            for distance, is_right in copies_of(tokenizer, row):
                count[distance // args.width] += 1
                right[distance // args.width] += is_right
    print("tokens     copies  right")
    for at in sorted(count):
        print(f"{at * args.width:3}-{(at + 1) * args.width - 1:<6} {count[at]:6}  {right[at] / count[at]:.3f}")


main()
