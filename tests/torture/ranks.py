#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills one of two ranks at random moments, and asks that nothing hangs and nothing gets lost.

usage: ranks.py PROGRAM [--trials N] [--jobs N] [--device cpu|cuda]

For a fine-tuning and a reinforcement run, N times: two processes start as ranks of one run, and at a random moment after
they have met kill -9 ends one of them. The other must end within a minute, with a sentence. Then the run goes on with
--resume auto, on one rank and on two in turn. In the end weights, steps and losses are those of one rank that was left
alone, to the bit, and no hidden file is left. On CUDA each rank has the device of its number.
"""
import argparse
import concurrent.futures
import itertools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from torture import CHAIN, SHAPE, Command, require

PROMISED = 60  # seconds until all ranks have ended
PORTS = itertools.count(random.randrange(20000, 30000))


def make_commands(run, scratch, saving):
    base = scratch / "base"
    run(["pretrain", *SHAPE, *CHAIN, *saving, "--max-steps", "2", "--batch-size", "2", "--output-dir", str(base)], ranks=1)
    resume = ["--resume", "auto"]
    return [
        Command("sft", ["sft", "--model", str(base), *CHAIN, *saving, "--max-steps", "400", "--batch-size", "2",
                        "--grad-accum", "2"], resume, ["."], 400),
        Command("rl", ["rl", "--model", str(base), *CHAIN, *saving, "--max-steps", "200", "--prompts-per-step", "2",
                       "--num-generations", "2", "--chunks", "2", "--entropy-coef", "0.01"], resume, ["."], 200),
    ]


class Trials:
    """Of one program, in a directory of its own."""

    def __init__(self, options):
        self.program = options.program
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="swarr-ranks-")).resolve()
        saving = ["--save-every", "5", "--threads", "1", "--quiet", "--device", options.device]
        self.commands = make_commands(self.run, self.scratch, saving)

    def start(self, arguments, ranks):
        place = f"localhost:{next(PORTS)}"
        return [subprocess.Popen([self.program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                 env=dict(os.environ, SWARR_RANKS=str(ranks), SWARR_RANK=str(r), SWARR_LOCAL_RANK=str(r),
                                          SWARR_RENDEZVOUS=place)) for r in range(ranks)]

    def start_run(self, arguments, out):
        """Two ranks, when they have met: then rank 0 makes the directory."""
        ranks = self.start([*arguments, "--output-dir", str(out)], 2)
        while not out.exists() and all(process.poll() is None for process in ranks):
            time.sleep(0.01)
        return ranks

    @staticmethod
    def end_well(ranks):
        for process in ranks:
            said = process.communicate()[1]
            require(process.returncode == 0, f"{' '.join(process.args)}: {said}")

    def run(self, arguments, ranks):
        self.end_well(self.start(arguments, ranks))

    def alone(self, command):
        """What a run that is left alone ends with, and how many seconds pass between the meeting and the first step."""
        one, two = (self.scratch / f"{command.name}-on-{ranks}" for ranks in (1, 2))
        self.run([*command.arguments, "--output-dir", str(one)], 1)
        ranks = self.start_run(command.arguments, two)
        began = time.monotonic()
        self.wait_for(1, two, ranks)
        seconds = time.monotonic() - began
        self.end_well(ranks)
        expected = command.result(one)
        require(command.result(two) == expected, f"{command.name}: two ranks differ from one")
        return expected, seconds

    @staticmethod
    def wait_for(rows, out, ranks):
        metrics = out / "metrics.jsonl"
        while all(process.poll() is None for process in ranks):
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= rows:
                return
            time.sleep(0.005)

    def trial(self, command, number, count, expected, start):
        """Returns whether the run was stopped before its end, and how long the other rank took to end. Moments are spread
        over the steps, and one in five comes before them."""
        out = self.scratch / f"{command.name}-{number}"
        ranks = self.start_run(command.arguments, out)
        if number % 5 == 0:
            time.sleep(start * random.random())
        else:
            self.wait_for(int(command.steps * (number + random.random()) / count), out, ranks)
            time.sleep(0.02 * random.random())
        victim = random.randrange(2)
        ranks[victim].send_signal(signal.SIGKILL)
        began = time.monotonic()
        try:
            said = ranks[1 - victim].communicate(timeout=PROMISED)[1]
        except subprocess.TimeoutExpired:
            ranks[1 - victim].kill()
            raise AssertionError(f"rank {1 - victim} does not end when the other was killed")
        took = time.monotonic() - began
        ranks[victim].communicate()
        stopped = ranks[1 - victim].returncode != 0  # else it had done all when the other was killed
        require(not stopped or (ranks[1 - victim].returncode == 1 and "rank" in said.splitlines()[-1]), said)
        self.run([*command.arguments, "--output-dir", str(out), *command.resume], 1 + number % 2)
        found = command.result(out)
        shutil.rmtree(out)
        for key, value in expected.items():
            require(found[key] == value, f"{key} differs")
        return stopped, took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    trials, failures = Trials(options), 0
    expected = [trials.alone(command) for command in trials.commands]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        started = [[pool.submit(trials.trial, command, n, options.trials, *of_command) for n in range(options.trials)]
                   for command, of_command in zip(trials.commands, expected)]
        for command, running in zip(trials.commands, started):
            for number, done in enumerate(running):
                if done.exception():
                    failures += 1
                    print(f"{command.name}, {number}: {done.exception()!r}")
            ended = [done.result() for done in running if not done.exception()]
            stopped = sum(stopped for stopped, _ in ended)
            if 2 * stopped < options.trials:
                failures += 1
                print(f"{command.name}: too few trials have stopped the run")
            print(f"{command.name}: {options.trials} trials, {stopped} stopped before the end, the other rank ended "
                  f"within {max((took for _, took in ended), default=0):.2f} s", flush=True)
    shutil.rmtree(trials.scratch)
    print(f"{failures} failures")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
