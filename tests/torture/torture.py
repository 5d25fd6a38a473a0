#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills runs and fills their disk at file operations, and asks that nothing gets lost.

usage: torture.py PROGRAM FAULTS_LIBRARY [--every N] [--jobs N]

For a pretraining, a fine-tuning, a reinforcement run and a study, each of a few steps:
  kill   before each file operation within the output directory the process is killed (kill -9), then the command is
         given again with --resume auto;
  full   from each file operation on the disk is full; a command that fails does so with one sentence and status 1 (what
         comes last may still fit), and ends well when it is given again with space;
  replace  as full, over a complete run with --overwrite: the old model must stay whole until the new one is.
In the end the weights are those of a run that was left alone, to the bit, every metric is there once, and no hidden file
is left. --every N tries each N-th operation alone (from a different first one for each command).
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SHAPE = ["--layers", "1", "--hidden-size", "16", "--heads", "2", "--ffn", "24", "--max-positions", "64"]
CHAIN = ["--task", "chain", "--n-min", "1", "--n-max", "2"]
SAVING = ["--save-every", "2", "--keep-checkpoints", "1", "--threads", "1", "--quiet"]


def require(condition, message):
    """Like assert, which python3 -O leaves out."""
    if not condition:
        raise AssertionError(message)


class Command:
    """A command of the program and what it writes."""

    def __init__(self, name, arguments, resume, models, steps):
        self.name, self.arguments, self.resume, self.models, self.steps = name, arguments, resume, models, steps

    def result(self, out):
        """All that must be equal in the end."""
        files = {}
        for model in self.models:
            files[model] = (out / model / "model.safetensors").read_bytes()
            rows = [json.loads(line) for line in (out / model / "metrics.jsonl").read_text().splitlines()]
            files[model + " steps"] = [row["step"] for row in rows]
            files[model + " losses"] = [row["loss"] for row in rows]
        hidden = [str(path) for path in out.rglob(".*")]
        require(not hidden, f"left behind: {hidden}")
        return files


ARMS = [f"runs/{arm}-seed0" for arm in ("sa_sft", "swa_sft", "sa_rl", "swa_rl", "swa_sft_more")]


def write_preset(data, problems, sft_steps, rl_steps):
    """The preset `tiny` of a study with the arms of quick, for the base model in data/base."""
    quick = pathlib.Path(__file__).resolve().parents[2] / "data" / "presets" / "quick.json"
    optimizer = {"lr": 1e-3, "lr_schedule": "constant", "min_lr_ratio": 1.0, "warmup_steps": 0, "weight_decay": 0.0,
                 "beta1": 0.9, "beta2": 0.95, "max_grad_norm": 1.0}
    preset = {"base_model": "base", "task": {"n_min": 1, "n_max": 2, "restate_probability": 0.15},
              "attention": {"window": 16, "sinks": 0}, "evaluation": {"problems": problems},
              "cost": {"longest": 64},
              "sft": {"steps": sft_steps, "batch_size": 2, **optimizer},
              "rl": {"steps": rl_steps, "prompts_per_step": 1, "num_generations": 2, "objective": "grpo", "epsilon": 0.2,
                     "scale_rewards": "group", "normalizer": "token-mean", **optimizer},
              "arms": json.loads(quick.read_text())["arms"]}
    (data / "presets" / "tiny.json").write_text(json.dumps(preset))


def make_commands(run, scratch):
    base = scratch / "base"
    run(["pretrain", *SHAPE, *CHAIN, *SAVING, "--max-steps", "2", "--batch-size", "2", "--output-dir", str(base)])
    rows = scratch / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"a{i}b1:", "completion": f"{i}", "answer": str(i)}) + "\n"
                            for i in range(6)))
    data = scratch / "data"
    (data / "presets").mkdir(parents=True)
    shutil.copytree(base, data / "base")
    write_preset(data, problems=2, sft_steps=2, rl_steps=2)
    resume = ["--resume", "auto"]
    return [
        Command("pretrain", ["pretrain", *SHAPE, *CHAIN, *SAVING, "--max-steps", "5", "--batch-size", "2"], resume, ["."],
                5),
        Command("sft", ["sft", "--model", str(base), "--data", str(rows), *SAVING, "--max-steps", "5", "--batch-size",
                        "2"], resume, ["."], 5),
        Command("rl", ["rl", "--model", str(base), *CHAIN, *SAVING, "--max-steps", "5", "--prompts-per-step", "1",
                       "--num-generations", "2"], resume, ["."], 5),
        Command("study", ["study", "--preset", "tiny", "--data-dir", str(data), "--threads", "1", "--quiet",
                          "--keep-models"], [], ARMS, 2),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("library")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="swarr-torture-")).resolve()

    def run(arguments, fault=None, out=None, may_fail=False):
        env = dict(os.environ, CUDA_VISIBLE_DEVICES="")
        if fault:
            env.update(LD_PRELOAD=options.library, SWARR_FAULT=fault, SWARR_FAULT_DIR=str(out),
                       SWARR_FAULT_COUNT=str(out) + ".count")
        done = subprocess.run([options.program, *arguments], env=env, capture_output=True, text=True)
        require(may_fail or done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}")
        return done

    def check_one(command, expected, kind, n, old):
        out = scratch / f"{command.name}-{kind}-{n}"
        arguments = [*command.arguments, "--output-dir", str(out)]
        replacing = []
        if kind == "replace":
            shutil.copytree(old, out)
            replacing = ["--overwrite"]
        fault = "kill" if kind == "kill" else "full"
        done = run([*arguments, *replacing], f"{fault}:{n}", out, may_fail=True)
        if kind == "kill":
            require(done.returncode == -9, f"{done.returncode}: {done.stderr}")
        elif done.returncode != 0:
            require(done.returncode == 1 and done.stderr.count("\n") == 1, f"{done.returncode}: {done.stderr}")
        if kind == "replace":
            run(["inspect", "--model", str(out)])  # the old model or the new one, whole
        if not (out / "results.json").exists():  # a study that is complete is refused
            run([*arguments, *(command.resume if kind != "replace" or (out / "run.json").exists() else [])])
        found = command.result(out)
        shutil.rmtree(out)
        for key, value in expected.items():
            require(found[key] == value, f"{key} differs")
        return done.returncode != 0

    failures, tried = 0, 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for offset, command in enumerate(make_commands(run, scratch)):
            alone = scratch / (command.name + "-alone")
            run([*command.arguments, "--output-dir", str(alone)], "count", alone)
            operations = int(pathlib.Path(str(alone) + ".count").read_text())
            expected = command.result(alone)
            kinds = ["kill", "full"] + (["replace"] if command.name == "sft" else [])
            for kind in kinds:
                trials = {n: pool.submit(check_one, command, expected, kind, n, alone)
                          for n in range(1 + offset % options.every, operations + 1, options.every)}
                for n, trial in trials.items():
                    tried += 1
                    if trial.exception():
                        failures += 1
                        print(f"{command.name}, {kind} at operation {n} of {operations}: {trial.exception()}")
                # Full from its last operations on, a disk may still do for a run; from the first on it can't.
                if not any(trial.exception() or trial.result() for trial in trials.values()):
                    failures += 1
                    print(f"{command.name}, {kind}: no trial has disturbed a run")
                print(f"{command.name}, {kind}: {len(trials)} of {operations} operations", flush=True)
    shutil.rmtree(scratch)
    print(f"{tried} trials, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
