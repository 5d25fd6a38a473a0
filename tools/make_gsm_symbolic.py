#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes sft.jsonl, rl.jsonl and eval.jsonl of GSM-Symbolic problems (arXiv 2410.05229) for `swarr sft|rl|eval --data`.

    python3 tools/make_gsm_symbolic.py DIRECTORY [--sft 24000] [--rl 4000] [--eval 1000] [--seed 0]

The problems are made by the PyPI package reasoning-gym (tried with 0.1.25), its data set gsm_symbolic; they are not part
of this repository. Rows have prompt, completion (the worked solution, which ends with "#### answer") and answer. The
sets share no question: one that has come before is drawn again. They do share templates, as GSM-Symbolic has a hundred.
"""

import argparse
import itertools
import json
import pathlib

import reasoning_gym

INSTRUCTION = " Give the result as your final answer. Do not include units."


def row(problem):
    answer = problem["answer"]
    steps = problem["metadata"]["answer_cot"].split("####")[0].strip()  # its own last line may write 8190 as 8190.0
    return {"prompt": problem["question"].removesuffix(INSTRUCTION), "completion": f"{steps}\n#### {answer}", "answer": answer}


def rows_without_repetition(seed):
    seen = set()
    for block in itertools.count():
        for problem in reasoning_gym.create_dataset("gsm_symbolic", size=1000, seed=1_000_000 * seed + block):
            made = row(problem)
            if made["prompt"] not in seen:
                seen.add(made["prompt"])
                yield made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=pathlib.Path)
    counts = {"sft": 24000, "rl": 4000, "eval": 1000}
    for name, count in counts.items():
        parser.add_argument("--" + name, type=int, default=count, help="rows")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    rows = rows_without_repetition(args.seed)
    for name in counts:
        with open(args.directory / f"{name}.jsonl", "w") as file:
            for made in itertools.islice(rows, getattr(args, name)):
                file.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
