#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings a run of swarr into Weights & Biases or Trackio: options, and the metrics of every step.

    pip install wandb            (or trackio)
    python3 tools/import_run.py out/rl --to wandb --project swarr
    WANDB_MODE=offline python3 tools/import_run.py out/sft --to wandb       (wandb sync sends it later)
    python3 tools/import_run.py out/sft --to trackio --name "sft, window 16"

Names are those of --report-to tensorboard, and so TRL's: train/loss, train/reward, eval/accuracy. Warnings, which are
texts, stay in metrics.jsonl.
"""

import argparse
import importlib
import json
import pathlib
import sys


def scalars(row):
    """The numbers of a row of metrics.jsonl by their names."""
    return {name if name.startswith("eval/") else "train/" + name: value
            for name, value in row.items() if name != "step" and isinstance(value, (int, float))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="output directory of pretrain, sft or rl")
    parser.add_argument("--to", choices=["wandb", "trackio"], required=True)
    parser.add_argument("--project", default="swarr")
    parser.add_argument("--name", help="of the run there; the directory's, unless given")
    args = parser.parse_args()
    metrics, config = args.run / "metrics.jsonl", args.run / "resolved_config.json"
    for path in (metrics, config):
        if not path.is_file():
            sys.exit(f"{path} does not exist; name the output directory of pretrain, sft or rl")
    try:
        tracker = importlib.import_module(args.to)
    except ImportError:
        sys.exit(f"{args.to} is not installed; pip install {args.to}")
    tracker.init(project=args.project, name=args.name or args.run.resolve().name, config=json.loads(config.read_text()))
    steps = 0
    for line in metrics.read_text().splitlines():
        row = json.loads(line)
        tracker.log(scalars(row), step=row["step"])
        steps += 1
    tracker.finish()
    print(f"{steps} steps of {args.run} are in {args.to}'s project {args.project}")


if __name__ == "__main__":
    main()
