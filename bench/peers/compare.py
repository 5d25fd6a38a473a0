#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""swarr and PyTorch side by side, on this machine, in one run: speeds, and the ratios of their medians.

    make bench-peers                                     Debian's PyTorch
    make bench-peers PEER_PYPI=1                         and the newest from PyPI
    make bench-peers PEER_FLAGS="--rows 'D train'"       only the rows whose name contains this

Each row is measured on all sides closely after one another, and that several times (`--rounds`), every second time in
the opposite order, so that a machine that changes its speed changes it for all. A side's figure is the median over the
rounds of its medians, and PyTorch's the better of its variants (torch_cpu.py). Training is compared within a dtype,
decoding by each side's better dtype. swarr's training step also clips the gradients; PyTorch's does not. sitting.py
does the same on a GPU.

Before and after each round of a row two peaks of the machine are measured, and what other programs computed meanwhile
(disturbance.py). A round is disturbed if one of them is below a share of the run's highest, or if others kept more than
0.3 of a processor busy. It is then measured again, `--repeats` times at most; the least disturbed one counts, and is
marked if it was disturbed too. A run that is ended by a signal (`timeout 200`) reports the rows that it has.
"""
import argparse
import itertools
import json
import os
import pathlib
import signal
import statistics
import sys
from dataclasses import dataclass, field

from common import SideError, processor_name, run_json, text_table
from cpu_rows import ROWS, SHARES
from disturbance import PEAK_ROW, Watch, conditions_json

TORCH_SCRIPT = pathlib.Path(__file__).resolve().parent / "torch_cpu.py"
DTYPES = ("f32", "bf16")
TIME_LIMIT = 900  # seconds for one side's measurement of one row: beyond it something hangs


@dataclass
class Side:
    label: str
    measure: object  # Row -> list of {dtype, variant, tokens_per_second, ms, repetitions} or {dtype, error}
    details: dict = field(default_factory=dict)  # its versions, and the check of a peer
    rounds: dict = field(default_factory=dict)  # row's name -> list of what `measure` returned

    def speed(self, row, dtype):
        """The median over the rounds, of the best variant; None where there is none."""
        by_variant = {}
        for result in self.results(row):
            if result["dtype"] == dtype and "tokens_per_second" in result:
                by_variant.setdefault(result.get("variant"), []).append(result["tokens_per_second"])
        return max(map(statistics.median, by_variant.values()), default=None)

    def best(self, row):
        return max((t for t in (self.speed(row, d) for d in DTYPES) if t), default=None)

    def results(self, row):
        return [result for results in self.rounds.get(row.name, []) for result in results]

    def errors(self):
        results = itertools.chain.from_iterable(itertools.chain.from_iterable(self.rounds.values()))
        return sorted({f"{self.label}, {r['dtype']}: {r['error']}" for r in results if "error" in r})


# ----------------------------------------------------------------------------------------------------- the two programs
def swarr_bench(args, suite, rows, dtype, seconds):
    command = [args.swarr, "bench", "--suite", suite, "--rows", rows, "--dtype", dtype]
    command += ["--threads", str(args.threads), "--seconds-per-row", str(seconds)]
    return run_json(command, TIME_LIMIT)


def swarr_side(args):
    side = Side("swarr", None)

    def measure_dtype(row, dtype):
        try:
            result = swarr_bench(args, row.suite, row.name, dtype, args.row_seconds)
        except SideError as error:
            return {"dtype": dtype, "error": str(error)}
        side.details = {key: result[key] for key in ("version", "revision", "gemm", "threads")}
        for measured in result["rows"]:
            if measured["name"] == row.name:
                return {"dtype": dtype, **measured}
        return {"dtype": dtype, "error": f"swarr bench has no row '{row.name}'"}

    side.measure = lambda row: [measure_dtype(row, dtype) for dtype in dtypes_of(row)]
    return side


def dtypes_of(row):
    return DTYPES if "best" in row.at_least else tuple(row.at_least)


def peer_environment(threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    # Either makes OpenBLAS take kernels or block sizes other than those it would choose for this processor. A peer is
    # measured at its best.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(name, None)
    return environment


def peer_side(args, python):
    """Throws SideError where this interpreter has no PyTorch."""
    environment = peer_environment(args.threads)

    def run_rows(name):
        command = [python, str(TORCH_SCRIPT), "--rows", name, "--row-seconds", str(args.row_seconds)]
        return run_json([*command, "--threads", str(args.threads)], TIME_LIMIT, environment)

    def measure(row):
        try:
            rows = run_rows(row.name)["rows"]
        except SideError as error:
            return [{"dtype": dtype, "error": str(error)} for dtype in dtypes_of(row)]
        return [result for result in rows if result["name"] == row.name]

    details = run_rows("check")
    label = "torch " + details["torch"].split("+")[0]
    return Side(label, measure, {"interpreter": python, **details})


def peer_sides(args):
    sides = []
    for python in args.pythons.split():
        try:
            side = peer_side(args, python)
        except SideError as error:
            print(f"{python} is not measured: {error}")
            continue
        if any(side.label == other.label for other in sides):
            side.label += f" ({python})"
        sides.append(side)
    return sides


def measured_quietly(args, watch, measure):
    """What `measure` returns, and its conditions: of the least disturbed of at most 1 + repeats calls."""
    tries = []
    while len(tries) <= args.repeats and (not tries or watch.is_disturbed(tries[-1][1])):
        results = []
        conditions = watch.during(lambda: results.append(measure()))
        tries.append((results[0], conditions))
    undisturbed = [one for one in tries if not watch.is_disturbed(one[1])]
    return undisturbed[-1] if undisturbed else max(tries, key=lambda one: watch.lowest_share(one[1]))


def measure_row(args, watch, sides, row):
    """The conditions of its rounds."""
    all_conditions = []
    for round_number in range(args.rounds):
        order = sides if round_number % 2 == 0 else sides[::-1]
        results, conditions = measured_quietly(args, watch, lambda: [side.measure(row) for side in order])
        for side, result in zip(order, results):
            side.rounds.setdefault(row.name, []).append(result)
        all_conditions.append(conditions)
        so_far = ", ".join(f"{side.label} {speeds_cell(side, row)}" for side in sides)
        print(f"{row.name}: round {round_number + 1} of {args.rounds}: {so_far}", file=sys.stderr, flush=True)
    return all_conditions


def measure_share(args, watch, share):
    """The rates of its ops in f32, GFLOP/s: medians over the rounds."""
    rates, all_conditions = {}, []

    def measure():
        rows = swarr_bench(args, "ops", share.rows, "f32", args.op_seconds)["rows"]
        return {row["name"]: row["gflops"] for row in rows if "peak_share" in row}

    for _ in range(args.rounds):
        found, conditions = measured_quietly(args, watch, measure)
        all_conditions.append(conditions)
        for name, value in found.items():
            rates.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in rates.items()}, all_conditions


# ----------------------------------------------------------------------------------------------------------- the report
def ratio(ours, theirs):
    return ours / theirs if ours and theirs else None


def ratios(row, swarr, peer):
    if "best" in row.at_least:
        return {"best": ratio(swarr.best(row), peer.best(row))}
    return {d: ratio(swarr.speed(row, d), peer.speed(row, d)) for d in row.at_least}


def is_met(row, swarr, peers):
    """Against every peer; None where a ratio is missing."""
    pairs = [(r, row.at_least[key]) for peer in peers for key, r in ratios(row, swarr, peer).items()]
    if not pairs or any(r is None for r, _ in pairs):
        return None
    return all(r >= bar for r, bar in pairs)


def speeds_cell(side, row):
    speeds = (side.speed(row, dtype) for dtype in dtypes_of(row))
    return " / ".join(f"{s:,.0f}" if s else "error" for s in speeds)


def ratios_cell(values):
    return " / ".join(f"{r:.2f}x" if r else "?" for r in values.values())


def table(rows, swarr, peers):
    sides = [swarr, *peers]
    header = ["tokens/s", *(side.label for side in sides), *(f"to {peer.label}" for peer in peers)]
    lines = [header + ["at least", "met"]]
    for row in rows:
        met = {True: "yes", False: "no", None: "?"}[is_met(row, swarr, peers)]
        cells = [row.name, *(speeds_cell(s, row) for s in sides), *(ratios_cell(ratios(row, swarr, p)) for p in peers)]
        lines.append(cells + [ratios_cell(row.at_least), met])
    return text_table(lines)


def check_line(peer):
    """What the peer's own check found, and whether its matrix products are a peer's."""
    checks = peer.details["rows"]
    failed = {c["error"] for c in checks if "error" in c}
    if failed:
        return f"{peer.label}: " + "; ".join(sorted(failed))
    shares = {d: max(c["bit_equal_logprobs"] for c in checks if c["dtype"] == d) for d in DTYPES}
    equal = ", ".join(f"{dtype} at most {100 * share:.0f}%" for dtype, share in shares.items())
    return (
        f"{peer.label}: computes what it claims; f32 product {peer.details['product_gflops']:.0f} GFLOP/s; "
        f"log-probabilities of decoding that equal the forward pass's bit for bit: {equal}"
    )


def share_table(shares, peak):
    """Of the highest peak of the run: one that was measured while the machine was disturbed flatters."""
    lines = [["share of the f32 peak", "smallest", "largest", "at least", "met"]]
    for share, rates, _ in shares:
        low, high = min(rates.values()) / peak, max(rates.values()) / peak
        met = "yes" if low >= share.at_least else "no"
        lines.append([share.name, f"{low:.0%}", f"{high:.0%}", f"{share.at_least:.0%}", met])
    return text_table(lines)


def print_conditions(watch, conditions):
    print("Of each round: peaks before; after, the system's load before; after, how many processors others kept busy.")
    for name, rounds in conditions.items():
        for one in rounds:
            print(f"  {name}: {one.text()}" + (", DISTURBED" if watch.is_disturbed(one) else ""))
    print()


def print_report(environment, rows, swarr, peers, shares):
    setting = (
        "{processor}, processors {processors}, {threads} threads, f32 peak {highest_peak:.0f} GFLOP/s, load before "
        "{load_before:.2f}, median of {rounds} rounds"
    )
    print(setting.format(**environment))
    print("f32 / bf16 where there are two; ratios of decoding are those of each side's better dtype.\n")
    if rows:
        print(table(rows, swarr, peers) + "\n")
    if shares:
        print(share_table(shares, environment["highest_peak"]) + "\n")
    for peer in peers:
        print(check_line(peer))
    for side in (swarr, *peers):
        for error in side.errors():
            print(f"error: {error}")


def report_json(environment, rows, swarr, peers, shares, conditions):
    sides = [swarr, *peers]

    def row_json(row):
        return {
            "name": row.name,
            "at_least": row.at_least,
            "met": is_met(row, swarr, peers),
            "tokens_per_second": {s.label: {d: s.speed(row, d) for d in dtypes_of(row)} for s in sides},
            "ratios": {peer.label: ratios(row, swarr, peer) for peer in peers},
            "rounds": {side.label: side.rounds.get(row.name, []) for side in sides},
        }

    return {
        **environment,
        "sides": {s.label: s.details for s in sides},
        "rows": [row_json(row) for row in rows],
        "shares": [{"name": share.name, "at_least": share.at_least, "gflops": rates} for share, rates, _ in shares],
        "conditions": {name: [conditions_json(c) for c in rounds] for name, rounds in conditions.items()},
    }


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures swarr and PyTorch side by side.")
    parser.add_argument("--swarr", default="build/swarr", help="the program")
    parser.add_argument("--pythons", default="/usr/bin/python3", help="interpreters that have torch, between spaces")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured on each side")
    parser.add_argument("--row-seconds", type=float, default=1.0, help="how long one measurement is repeated")
    parser.add_argument("--op-seconds", type=float, default=0.2, help="the same of one op's")
    parser.add_argument("--repeats", type=int, default=2, help="how often a disturbed round is measured again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, help="file for everything that was measured")
    return parser.parse_args()


def main():
    args = parse_arguments()
    environment = {
        "processor": processor_name(),
        "processors": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "threads": args.threads,
        "rounds": args.rounds,
        "row_seconds": args.row_seconds,
        "load_before": os.getloadavg()[0],  # another program's work, which spoils the figures
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    swarr, peers, watch = swarr_side(args), peer_sides(args), Watch(args.swarr, args.threads)
    rows, shares, conditions = [], [], {}
    try:
        for share in (share for share in SHARES if args.rows in share.name):
            shares.append((share, *measure_share(args, watch, share)))
            conditions[share.name] = shares[-1][2]
        for row in (row for row in ROWS if args.rows in row.name):
            conditions[row.name] = measure_row(args, watch, [swarr, *peers], row)
            rows.append(row)
    except KeyboardInterrupt:
        print("Ended before all rows were measured.")
    environment["highest_peak"] = watch.highest[PEAK_ROW]
    print_report(environment, rows, swarr, peers, shares)
    print_conditions(watch, conditions)
    report = report_json(environment, rows, swarr, peers, shares, conditions)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n")


main()
