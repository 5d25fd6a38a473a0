#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stops runs at random moments, and asks that nothing gets lost.

usage: moments.py PROGRAM [--share X] [--jobs N]

For a fine-tuning, a reinforcement run and a study of some seconds, each trial at a random moment of the run:
  kill    kill -9, then the command is given again (with --resume auto)
  term    SIGTERM: the program saves and ends with status 143, then it is given again
  pipe    SIGINT to a program whose output nobody reads any more: the same with status 130
  double  kill -9, then the command is given twice at once: one is refused and the other goes on
In the end the weights are those of a run that was left alone, to the bit, every metric is there once, and no hidden file
is left. --share 0.1 makes a tenth of the trials.
"""
import argparse
import concurrent.futures
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

from torture import ARMS, CHAIN, SHAPE, Command, require, write_preset

SAVING = ["--save-every", "5", "--threads", "1", "--quiet"]
# What the second of two resumes is told: the first still writes, or has completed a study.
REFUSED = ("another process is writing", "already holds this study, complete")
TRIALS = {"sft": {"kill": 100, "term": 25, "pipe": 25, "double": 16},
          "rl": {"kill": 100, "term": 25, "pipe": 25, "double": 16},
          "study": {"kill": 100, "term": 10, "pipe": 10, "double": 8}}
STATUS = {"kill": -9, "term": 143, "pipe": 130, "double": -9}
SIGNAL = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "pipe": signal.SIGINT, "double": signal.SIGKILL}


def make_commands(run, scratch):
    data = scratch / "data"
    (data / "presets").mkdir(parents=True)
    base = data / "base"
    run(["pretrain", *SHAPE, *CHAIN, *SAVING, "--max-steps", "2", "--batch-size", "2", "--output-dir", str(base)])
    write_preset(data, problems=20, sft_steps=200, rl_steps=40)
    resume = ["--resume", "auto"]
    return [
        Command("sft", ["sft", "--model", str(base), *CHAIN, *SAVING, "--max-steps", "1000", "--batch-size", "2"], resume,
                ["."], 1000),
        Command("rl", ["rl", "--model", str(base), *CHAIN, *SAVING, "--max-steps", "200", "--prompts-per-step", "1",
                       "--num-generations", "2"], resume, ["."], 200),
        Command("study", ["study", "--preset", "tiny", "--data-dir", str(data), "--threads", "1", "--quiet",
                          "--keep-models"], [], ARMS, 40),
    ]


class Trials:
    """Of one program, in a directory of its own."""

    def __init__(self, program):
        self.program = program
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="swarr-moments-")).resolve()
        self.environment = dict(os.environ, CUDA_VISIBLE_DEVICES="")
        self.commands = make_commands(self.run, self.scratch)

    def start(self, arguments, output=subprocess.DEVNULL):
        return subprocess.Popen([self.program, *arguments], env=self.environment, stdout=output, stderr=output)

    def run(self, arguments):
        done = subprocess.run([self.program, *arguments], env=self.environment, capture_output=True, text=True)
        require(done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}")

    def alone(self, command):
        """What a run that is left alone ends with, and how many seconds it takes."""
        out = self.scratch / (command.name + "-alone")
        began = time.monotonic()
        self.run([*command.arguments, "--output-dir", str(out)])
        return command.result(out), time.monotonic() - began

    def stop(self, arguments, kind, after):
        """Starts the command, stops it after so many seconds, and returns whether that came before its end."""
        process = self.start(arguments, subprocess.PIPE if kind == "pipe" else subprocess.DEVNULL)
        if kind == "pipe":
            process.stdout.close()
        time.sleep(after)
        process.send_signal(SIGNAL[kind])
        status = process.wait()
        # Before the program watches for signals, they end it as they end any.
        require(status in (0, STATUS[kind], -SIGNAL[kind]), f"status {status}")
        return status != 0

    def resume_twice(self, arguments):
        """Returns whether one was refused."""
        both = [subprocess.Popen([self.program, *arguments], env=self.environment, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True) for _ in range(2)]
        failed = [said for said, status in [(p.communicate()[1], p.returncode) for p in both] if status != 0]
        require(len(failed) <= 1 and all(any(why in said for why in REFUSED) for said in failed), failed)
        return len(failed) == 1

    def trial(self, command, kind, number, expected, seconds):
        moment = random.Random(f"{command.name} {kind} {number}").random()
        out = self.scratch / f"{command.name}-{kind}-{number}"
        arguments = [*command.arguments, "--output-dir", str(out)]
        # Of a double resume enough must be left to do that the two meet.
        disturbed = self.stop(arguments, kind, moment * seconds * (0.5 if kind == "double" else 1.0))
        arguments += command.resume
        if kind == "double":
            disturbed = self.resume_twice(arguments)
        elif not (out / "results.json").exists():  # a study that is complete is refused
            self.run(arguments)
        found = command.result(out)
        shutil.rmtree(out)
        for key, value in expected.items():
            require(found[key] == value, f"{key} differs")
        return disturbed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else what a script has put behind ignores it
    trials, failures = Trials(options.program), 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for command in trials.commands:
            expected, seconds = trials.alone(command)
            for kind, count in TRIALS[command.name].items():
                count = max(1, round(count * options.share))
                running = [pool.submit(trials.trial, command, kind, n, expected, seconds) for n in range(count)]
                for number, done in enumerate(running):
                    if done.exception():
                        failures += 1
                        print(f"{command.name}, {kind} {number}: {done.exception()!r}")
                disturbed = sum(not done.exception() and done.result() for done in running)
                # Moments are spread over the whole run, so a program that goes by them is stopped in most trials.
                if 2 * disturbed < count:
                    failures += 1
                    print(f"{command.name}, {kind}: too few trials have disturbed the run")
                print(f"{command.name}, {kind}: {count} trials, {disturbed} stopped or refused before the end",
                      flush=True)
    shutil.rmtree(trials.scratch)
    print(f"{failures} failures")
    raise SystemExit(failures > 0)


if __name__ == "__main__":
    main()
