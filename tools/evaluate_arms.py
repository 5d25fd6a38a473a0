#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the models that a study has kept (--keep-models) on problems of another file.

    python3 tools/evaluate_arms.py build-cuda/swarr out/gsm out/gsm-rows/gsm8k.jsonl [--device cuda] [--limit 400]

Rows are prompt and answer; prompts go to the model as they stand, and the reward math judges one completion at
T = 1 of each. Writes STUDY/evaluated/<name of the file>/<run>.json for every run, with the numbers of the
problems that were right, and skips those that are there; prints a table, means over seeds.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import tempfile


def measure(options, run):
    with tempfile.TemporaryDirectory() as folder:
        completions = pathlib.Path(folder) / "completions.jsonl"
        job = subprocess.run(
            [options.program, "eval", "--model", run, "--data", options.rows, "--reward", "math", "--template", "plain",
             "--max-completion-length", str(options.limit), "--device", options.device, "--threads",
             str(options.threads), "--dtype", options.dtype, "--seed", run.name.rpartition("seed")[2], "--slots", "512",
             "--problems", str(options.problems), "--completions-out", completions, "--json", "--quiet"],
            check=True, capture_output=True, text=True)
        told = json.loads(job.stdout)
        rows = [json.loads(line) for line in completions.read_text(encoding="utf-8").splitlines()]
    return {**told, "right": [row["problem"] for row in rows if row["reward"] == 1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("study", type=pathlib.Path)
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--limit", type=int, default=400, help="tokens of a completion")
    parser.add_argument("--problems", type=int, default=0, help="the first ones; 0: all")
    options = parser.parse_args()
    out = options.study / "evaluated" / options.rows.stem
    out.mkdir(parents=True, exist_ok=True)
    for run in sorted((options.study / "runs").iterdir()):
        file = out / f"{run.name}.json"
        if (run / "model.safetensors").exists() and not file.exists():
            file.write_text(json.dumps(measure(options, run)) + "\n")
    arms = collections.defaultdict(list)
    for file in sorted(out.iterdir()):
        arms[file.stem.rpartition("-seed")[0]].append(json.loads(file.read_text()))
    print("| arm | accuracy | of each seed |\n|---|---|---|")
    for arm, runs in arms.items():
        mean = sum(run["accuracy"] for run in runs) / len(runs)
        print(f"| {arm} | {mean:.3f} | {', '.join(format(run['accuracy'], '.3f') for run in runs)} |")


main()
