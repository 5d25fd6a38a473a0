#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a neighbour costs: steps of SFT and RL with two threads on two processors, alone, beside one busy process, and
beside a second run of the same program.

    bench/neighbour.py build/swarr                       one build, held to the bars below
    bench/neighbour.py before/swarr build/swarr          two builds in turns; the first is what the others compare with

The steps of a kind are the same computation everywhere, so a ratio of rates is one of times. A rate is that of all
steps but the first few, slow ones included. With several rounds every figure is the median over them, and the slowest
step the slowest of all. Exits with 1 if the last program misses a bar. Whatever else runs on the machine is a
neighbour too: leave it alone meanwhile.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

BASE = pathlib.Path(__file__).resolve().parent.parent / "data" / "chain-base"
TASK = ["--task", "chain", "--n-min", "4", "--n-max", "20"]
KINDS = {
    "sft": ["sft", *TASK, "--restate", "0.15", "--lr", "0.0001"],
    "rl": ["rl", *TASK, "--prompts-per-step", "4", "--num-generations", "8"],
}
AT_LEAST = {"beside a busy process": 0.50, "beside a second run": 0.30}  # of the rate alone
CONDITIONS = ["alone", *AT_LEAST]
SLOWEST = 5.0  # a step, in medians
QUIET = 0.98  # of the first program's rate alone
WARM_UP = 3  # steps that do not count: they take memory and start threads
TIME_LIMIT = 3600  # seconds for a run: beyond it something hangs
BUSY = [sys.executable, "-c", "while True: pass"]


def two_processors():
    """Two that this process may use, on different cores if it may use several."""
    allowed, chosen, taken = sorted(os.sched_getaffinity(0)), [], set()
    for processor in allowed:
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        core = siblings.read_text() if siblings.exists() else str(processor)
        if core not in taken:
            chosen.append(processor)
            taken.add(core)
    return (chosen if len(chosen) >= 2 else allowed)[:2]


@contextlib.contextmanager
def neighbour(command):
    """A process that runs meanwhile."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            sys.exit(f"neighbour: the process beside ended too early: {' '.join(command)}")
    finally:
        process.kill()
        process.wait()


def command_of(program, kind, steps, folder, name):
    return [program, *KINDS[kind], "--model", f"{folder}/model", "--max-steps", str(steps), "--threads", "2", "--device",
            "cpu", "--quiet", "--output-dir", f"{folder}/{name}"]


def step_times(program, kind, condition, steps):
    """Seconds of every step that counts."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as beside:
        convert = [program, "convert", "--model", str(BASE), "--window", "16", "--output-dir", f"{folder}/model"]
        subprocess.run(convert, check=True, stdout=subprocess.DEVNULL)
        if condition == "beside a busy process":
            beside.enter_context(neighbour(BUSY))
        if condition == "beside a second run":
            beside.enter_context(neighbour(command_of(program, kind, 100 * steps, folder, "second")))
        subprocess.run(command_of(program, kind, steps + WARM_UP, folder, "run"), check=True, timeout=TIME_LIMIT,
                       stdout=subprocess.DEVNULL)
        rows = map(json.loads, pathlib.Path(folder, "run", "metrics.jsonl").read_text().splitlines())
        return [row["step_time"] for row in rows if "step_time" in row][WARM_UP:]


def report(programs, kind, measured):
    """Prints the table of a kind. Returns what the last program misses."""
    missed = []
    first = None
    for program in programs:
        alone = None
        for condition in CONDITIONS:
            runs = measured[program, kind, condition]
            rate = statistics.median(len(times) / sum(times) for times in runs)
            slowest = max(max(times) / statistics.median(times) for times in runs)
            alone, first = alone or rate, first or rate
            base, least = (first, QUIET) if condition == "alone" else (alone, AT_LEAST[condition])
            print(f"{kind:4} {condition:22} {rate:8.2f} steps/s  {rate / base:5.2f}  slowest step {slowest:6.2f} medians  "
                  f"{program}")
            if program == programs[-1]:
                where = f"{kind} {condition}"
                if rate / base < least:
                    missed.append(f"{where}: {rate / base:.3f} of the rate, at least {least} wanted")
                if slowest > SLOWEST:
                    missed.append(f"{where}: a step took {slowest:.1f} medians, at most {SLOWEST} wanted")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="path of a swarr")
    parser.add_argument("--steps", type=int, default=200, help="steps of a run (default: 200)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each (default: 1)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--processors", help="the two to use, as 0,1 (default: two that share no core)")
    parser.add_argument("--json", help="file for the seconds of every step")
    args = parser.parse_args()
    programs = [str(pathlib.Path(program).resolve(strict=True)) for program in args.programs]
    processors = [int(p) for p in args.processors.split(",")] if args.processors else two_processors()
    if len(processors) != 2:
        sys.exit("neighbour: two processors are needed.")
    os.sched_setaffinity(0, processors)  # what it starts inherits them
    print(f"two threads on processors {processors[0]} and {processors[1]}, load {os.getloadavg()[0]:.1f} before")

    measured, missed = {}, []
    for kind in args.kinds:
        for turn in range(args.rounds):
            for condition in CONDITIONS:
                for program in programs if turn % 2 == 0 else reversed(programs):
                    measured.setdefault((program, kind, condition), []).append(
                        step_times(program, kind, condition, args.steps))
        missed += report(programs, kind, measured)
    if args.json:
        rows = [{"program": p, "kind": k, "condition": c, "step_times": runs} for (p, k, c), runs in measured.items()]
        pathlib.Path(args.json).write_text(json.dumps(rows))
    for sentence in missed:
        print(f"missed: {sentence}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
