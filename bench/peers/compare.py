#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""swarr and PyTorch side by side, on this machine, in one run: speeds, and the ratios of their medians.

    make bench-peers                                     Debian's PyTorch
    make bench-peers PEER_PYPI=1                         and the newest from PyPI
    make bench-peers PEER_FLAGS="--rows 'D train'"       only some rows

All sides of a row are kept alive, prepared, and measure in turns of a fraction of a second (a training step of shape C
takes longer), every second turn in the opposite order. One computes at a time. Each is moved just before to quick
processors, and its turn counts as quiet if these were quick just before and after, and nobody else used them
(disturbance.py). A side's figure is the median over its quiet turns; where a side has too few of them, the row is
marked for it and the medians over all turns count. A row takes `--turns` turns, an op of swarr as many as should be
quiet, and both up to three times `--turns` while too few are; `--seconds` is shared out over the rows, so that each
comes to its turn.

Training is compared within a dtype, decoding by each side's better dtype. PyTorch has two variants, attention in plain
tensor operations and its fused one (torch_model.py). Of the variants, and in decoding of the dtypes, the better counts:
after two turns each only those go on that are within 10% of the side's best, so that no time goes to the others.
swarr's training step also clips the gradients; PyTorch's does not. sitting.py does the like on a GPU.

Ops of swarr are measured in the same way and held against the highest peak of the run. Beside each row stand the peaks
of the machine and the load of the system before and after. A run that is ended by a signal (`timeout 200`) reports what
it has.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from dataclasses import dataclass, field

from common import ROWS_HELP, SideError, end_by_signals, ignore_signals, is_among, processor_name, require_rows
from cpu_rows import DTYPES, ROWS, SHARES
from disturbance import Watch
from peers_report import print_report, report_json
from sides import PEAK_ROW, Swarr, Torch
from turns import Contest, run

MOST_TURNS = 3  # times as many as asked for, while too few were quiet


@dataclass
class Moment:
    """Of the machine, between two rows."""

    peaks: dict  # GFLOP/s
    load: float  # the system's mean of a minute, this run's own work included


@dataclass
class Measured:
    """A row or a share, and its contests by what they decide: a dtype, "best", or an op."""

    what: object
    contests: dict
    before: Moment
    after: Moment = None


@dataclass
class Comparison:
    args: object
    watch: Watch
    swarr: Swarr
    peers: list = field(default_factory=list)
    checks: dict = field(default_factory=dict)  # of each peer: what was found, or the error
    measured: list = field(default_factory=list)
    highest: dict = field(default_factory=dict)  # peaks of the run
    begin: float = field(default_factory=time.monotonic)

    def wanted(self, rows):
        return [row for row in rows if is_among(row.name, self.args.rows)]

    def moment(self):
        peaks = self.swarr.peaks(self.watch)
        for name, rate in peaks.items():
            self.note_peak(name, rate)
        return Moment(peaks, os.getloadavg()[0])

    def note_peak(self, name, rate):
        self.highest[name] = max(rate, self.highest.get(name, 0))

    def start_peers(self, logs):
        for python in self.args.pythons.split():
            try:
                peer = Torch(self.args, logs, python)
            except SideError as error:
                print(f"{python} is not measured: {error}")
                continue
            if any(peer.label == other.label for other in self.peers):
                peer.label += f" ({python})"
            self.peers.append(peer)
            try:
                self.checks[peer.label] = peer.check()
            except SideError as error:
                self.checks[peer.label] = str(error)

    def contest(self, name, ways, least):
        return Contest(self.watch, name, ways, least, MOST_TURNS * self.args.turns, self.args.quiet_turns)

    def contests_of(self, row):
        sides = [self.swarr, *self.peers]

        def among(key, dtypes):
            return self.contest(f"{row.name}, {key}", [w for s in sides for w in s.ways(row, dtypes)], self.args.turns)

        return {key: among(key, DTYPES if key == "best" else (key,)) for key in row.at_least}

    def contests_of_share(self, share):
        return {op: self.contest(op, [self.swarr.op(op)], self.args.quiet_turns) for op in share.ops}

    def measure(self, what, contests, groups, end):
        before = self.measured[-1].after if self.measured else self.moment()
        self.measured.append(Measured(what, contests, before))
        run(list(contests.values()), groups, end)
        turns = ", ".join(f"{contest.turns}" for contest in contests.values())
        print(f"[{time.monotonic() - self.begin:4.0f} s] {what.name}: {turns} turns", file=sys.stderr, flush=True)
        self.measured[-1].after = self.moment()

    def run(self, logs):
        end = self.begin + self.args.seconds
        shares, rows = self.wanted(SHARES), self.wanted(ROWS)
        if rows:
            self.start_peers(logs)
        if not self.peers:
            rows = []
        todo = [(share, self.contests_of_share, [["swarr"]]) for share in shares]
        todo += [(row, self.contests_of, [["swarr", peer.label] for peer in self.peers]) for row in rows]
        weight = sum(what.weight for what, _, _ in todo)
        for what, contests_of, groups in todo:
            now = time.monotonic()
            self.measure(what, contests_of(what), groups, now + (end - now) * what.weight / weight)
            weight -= what.weight

    def end(self):
        for one in self.measured:
            for contest in one.contests.values():
                contest.end()
        for side in (self.swarr, *self.peers):
            side.end()

    def note_ops_peaks(self):
        """An op's process has measured the peak as it began."""
        for one in self.measured:
            for contest in one.contests.values():
                for part in (part for entrant in contest.entrants for part in entrant.parts.values()):
                    if "peak_share" in part.result:
                        self.note_peak(PEAK_ROW, part.result["gflops"] / part.result["peak_share"])


def count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not 1 or more")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures swarr and PyTorch side by side.")
    parser.add_argument("--swarr", default="build/swarr", help="the program")
    parser.add_argument("--pythons", default="/usr/bin/python3", help="interpreters that have torch, between spaces")
    parser.add_argument("--rows", default="", help=ROWS_HELP)
    parser.add_argument("--seconds", type=float, default=600, help="for everything")
    parser.add_argument("--turns", type=count, default=12, help="of a row; more while too few are quiet")
    parser.add_argument("--quiet-turns", type=count, default=5, help="how many of them should be quiet for each side")
    parser.add_argument("--turn-seconds", type=float, default=0.15, help="how long a side measures in a turn")
    parser.add_argument("--op-seconds", type=float, default=0.05, help="the same of one op")
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="file for everything that was measured")
    args = parser.parse_args()
    require_rows(parser, [row.name for row in (*SHARES, *ROWS)], args.rows)
    if args.json:  # a place that can't be written should not be found out when all is measured
        try:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.open("a").close()
        except OSError as error:
            parser.error(f"--json: {error}")
    return args


def main():
    args = parse_arguments()
    end_by_signals()
    environment = {
        "processor": processor_name(),
        "processors": sorted(os.sched_getaffinity(0)),
        "threads": args.threads,
        "load_before": os.getloadavg()[0],  # another program's work, which spoils the figures
    }
    with tempfile.TemporaryDirectory() as logs:
        logs = pathlib.Path(logs)
        comparison = Comparison(args, Watch(args.threads), Swarr(args, logs))
        try:
            comparison.run(logs)
        except KeyboardInterrupt:
            print("Ended before all rows were measured.")
        except SideError as error:
            sys.exit(f"compare.py: {error}")
        finally:
            ignore_signals()
            comparison.end()
    if not comparison.measured:
        sys.exit("compare.py: nothing was measured: it ended too soon, or no interpreter has torch")
    comparison.note_ops_peaks()
    print_report(environment, comparison)
    if args.json:
        args.json.write_text(json.dumps(report_json(environment, comparison), indent=1) + "\n")


if __name__ == "__main__":
    main()
