# SPDX-License-Identifier: Apache-2.0
"""A stand-in for `swarr bench`, which measures nothing: every op has 210 GFLOP/s, 70% of a peak of 300, and every other
row 200 tokens/s.

FAKE_SIGNALS="2 SIGTERM SIGINT" in the environment: with its second answer, or its second call where it is asked for a
file, which FAKE_CALLS counts, it sends these to who started it, all but the first again and again, and does not answer.
FAKE_ERROR: says this and fails.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import sys
import time

PEAK = "peak of f32 multiply-add"
SETTING = {"version": "0", "revision": "fake", "cpu": "fake", "gemm": "own", "threads": 2}


def signal_parent(answer):
    at, *names = os.environ.get("FAKE_SIGNALS", "0").split()
    if answer != int(at):
        return
    parent = os.getppid()
    if os.fork() > 0:
        time.sleep(60)
    first, *more = (signal.Signals[name] for name in names)
    os.kill(parent, first)
    end = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        while more and time.monotonic() < end:
            for number in more:
                os.kill(parent, number)
                time.sleep(0.001)
    os._exit(0)


def row(name):
    if name == PEAK:
        return {"name": name, "ms": 1.0, "repetitions": 1, "gflops": 300.0}
    rate = {"gflops": 210.0, "peak_share": 0.7} if "gemm" in name or "attention" in name else {"tokens_per_second": 200.0}
    return {"name": name, "ms": 1.0, "repetitions": 3, "memory_bytes": 2**30, **rate}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--rows")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--on-request", action="store_true")
    args, _ = parser.parse_known_args()
    if error := os.environ.get("FAKE_ERROR"):
        sys.exit(error)
    if args.on_request:
        print(json.dumps(SETTING), flush=True)
        for answer, _ in enumerate(sys.stdin, start=1):
            signal_parent(answer)
            print(json.dumps(row(args.rows)), flush=True)
        return
    if calls := os.environ.get("FAKE_CALLS"):
        with open(calls, "a+b") as counted:
            counted.write(b"x")
            signal_parent(counted.tell())
    args.json.write_text(json.dumps({**SETTING, "rows": list(map(row, [PEAK, *args.rows.split(",")]))}))


main()
