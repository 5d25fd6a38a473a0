#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the rows of `swarr study --preset gsm`: problems of GSM-Symbolic (arXiv 2410.05229) and GSM8K (2110.14168).

    python3 tools/make_gsm_study.py gsm8k_train.jsonl out/gsm-rows [--shares 0.3 1] [--tokenizer tokenizer.json]

GSM-Symbolic's are made by the PyPI package reasoning-gym (make_gsm_symbolic.py); of GSM8K it takes the published
train.jsonl of 7,473 rows. Neither is part of this repository. No question comes twice.

    sft-SHARE.jsonl  26,527 of GSM-Symbolic and 5,473 of GSM8K; this share of the solutions carries (carry_numbers.py)
    rl.jsonl          3,000 of GSM-Symbolic
    search.jsonl        500 of GSM-Symbolic, to choose settings by
    eval.jsonl        1,000 of GSM-Symbolic, to measure on
    gsm8k.jsonl       1,000 of GSM8K, its last, to measure on

All have the first share's brackets. With a tokenizer the distances of each sft file are printed.
"""

import argparse
import itertools
import json
import pathlib
import random

import carry_numbers
import make_gsm_symbolic

SYMBOLIC = {"sft": 26527, "rl": 3000, "search": 500, "eval": 1000}
GSM8K = {"sft": 5473, "gsm8k": 1000}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gsm8k", type=pathlib.Path, help="GSM8K's train.jsonl")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 1], help="of solutions that carry")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json: print distances")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    symbolic = make_gsm_symbolic.rows_without_repetition(seed=0)
    published = [json.loads(line) for line in options.gsm8k.read_text(encoding="utf-8").splitlines()]
    sets = {}
    for name, count in SYMBOLIC.items():
        sets[name] = list(itertools.islice(symbolic, count))
    sets["sft"] += published[:GSM8K["sft"]]
    sets["gsm8k"] = published[-GSM8K["gsm8k"]:]
    for name, rows in sets.items():
        for share in options.shares if name == "sft" else options.shares[:1]:
            generator = random.Random(0)
            carried = [carry_numbers.carry(row, share, generator) for row in rows]
            file = options.directory / (f"sft-{share:g}.jsonl" if name == "sft" else f"{name}.jsonl")
            file.write_text("".join(json.dumps(row) + "\n" for row in carried), encoding="utf-8")
            if options.tokenizer and name == "sft":
                print(file, carry_numbers.Distances(options.tokenizer, carried).text(), sep="\n")


main()
