#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""swarr beside PyTorch, cuDNN and cuBLAS on a GPU: all that docs/cuda.md compares, in one sitting of some minutes.

    bench/peers/sitting.py --swarr build-cuda/swarr --output-dir out/sitting --seconds 400

Each row of PyTorch and cuDNN has a process of its own, and all compile at once; a row that hangs takes no other with
it. Then the device has one side at a time: rows are measured in batches, one side after the other, every second round
in the opposite order. A figure is the median over the rounds, a peer's that of its best variant. Rounds go on while the
time lasts. What matters most comes first, and what was measured when the time is up, or when it ends by a signal, is
printed and written as JSON.

Needs PyTorch 2 for the device and, for the row beside cuDNN, PyPI's nvidia-cudnn-frontend, both in the Python that runs
this. swarr's training step also clips the gradients; PyTorch's does not. Of a product, cuBLAS is called by swarr.
"""
import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

from common import ROWS_HELP, SideError, end_by_signals, ignore_signals, is_among, require_rows, run_json, text_table
from gpu_rows import BATCHES, DECODE_A, LEAST_PRODUCT_BARS, MEMORY_BARS, PRODUCT_BARS, ROWS, STUDY_BARS, TRAIN_A
from servers import Server

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = {"torch": HERE / "torch_gpu.py", "cudnn": HERE / "cudnn_window.py"}
READY_SHARE = 0.4  # of the time: what has not compiled until then is not measured
ROW_LIMIT = 30  # seconds for one side's measurement of one row: beyond it something hangs
STUDY_LIMIT, SCALING_RESERVE = 60, 75  # seconds; the reserve is kept from rounds
PRODUCT_SECONDS = 0.05  # of a product's row: there are 70, and two of each
SCALING_SECONDS = 0.5  # of scaling's: enough for the longest sequence to be run several times


class Peer(Server):
    """A process that compiles its rows, and then measures one when asked (jobs.py)."""

    def __init__(self, kind, names, row_seconds, logs):
        self.kind, self.names = kind, names
        command = [sys.executable, str(SCRIPTS[kind]), "--rows", ",".join(names), "--row-seconds", str(row_seconds)]
        super().__init__(command, logs / (re.sub(r"\W+", "_", f"{kind} {names[0]}") + ".log"))


class Sitting:
    def __init__(self, args):
        self.args, self.start = args, time.monotonic()
        self.started = []  # peers
        self.peers = {}  # those that are ready, by kind and row's name
        self.said = []  # by them, of themselves
        self.ours, self.theirs = defaultdict(list), defaultdict(list)  # by name; by kind and name: results of rounds
        self.products = {"own": defaultdict(list), "cublas": defaultdict(list)}
        self.free = defaultdict(list)  # by name: rows whose products are cuBLAS's
        self.study_seconds = None
        self.errors = set()

    def left(self):
        return self.args.seconds - (time.monotonic() - self.start)

    def say(self, text):
        print(f"[{time.monotonic() - self.start:4.0f} s] {text}", flush=True)

    def wanted(self, rows):
        return [row for row in rows if is_among(row.name, self.args.rows)]

    # ------------------------------------------------------------------------------------------------------------ peers
    def start_peers(self):
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # of each: the processes share the processors
        names = defaultdict(list)  # of each process
        for row in self.wanted(ROWS):
            if row.peer:
                names[row.peer, row.name.replace(" backward", "")].append(row.name)
        names["torch", "check"] = ["check"]
        for (kind, _), rows in names.items():
            self.started.append(Peer(kind, rows, self.args.row_seconds, self.args.output_dir / "logs"))

    def await_peers(self):
        for peer in self.started:
            try:
                said = peer.answer(self.left() - (1 - READY_SHARE) * self.args.seconds)
                self.said.append({"rows": peer.names, **said})
                self.errors.update(f"{peer.kind}: {error}" for error in said["errors"])
                self.peers.update(((peer.kind, name), peer) for name in peer.names)
                self.say(f"{peer.kind} is ready: {peer.names[0]}")
            except SideError as error:
                self.errors.add(f"{peer.kind}, {peer.names[0]}: not ready: {error}; more --seconds give it longer")

    def measure_peers(self, rows):
        for row in rows:
            peer = self.peers.get((row.peer, row.name))
            if not peer or self.left() < 1:
                continue
            try:
                for result in peer.ask(row.name, min(ROW_LIMIT, self.left())):
                    if "error" in result:
                        self.errors.add(f"{row.peer}, {row.name}, {result['variant']}: {result['error']}")
                    else:
                        self.theirs[row.peer, row.name].append(result)
            except SideError as error:
                self.errors.add(f"{row.peer}, {row.name}: {error}")
                for name in peer.names:
                    self.peers.pop((peer.kind, name), None)

    def end_peers(self):
        for peer in self.started:
            peer.end()
        self.peers = {}

    # ------------------------------------------------------------------------------------------------------------ swarr
    def bench(self, suite, names, *more, seconds=None):
        """The rows of these names, by name. If they fail together, each is measured alone."""
        command = [self.args.swarr, "bench", "--device", "cuda", "--dtype", "bf16", "--suite", suite]
        command += ["--rows", ",".join(names), "--seconds-per-row", str(seconds or self.args.row_seconds), *more]
        try:
            rows = run_json(command, max(1, min(ROW_LIMIT + 5 * len(names), self.left())))["rows"]
            return {row["name"]: row for row in rows}
        except SideError as error:
            self.errors.add(f"swarr, {', '.join(names)}: {error}"[:300])
        alone = names if len(names) > 1 and self.left() > 1 else []
        return {name: row for one in alone for name, row in self.bench(suite, [one], *more, seconds=seconds).items()}

    def measure_ours(self, rows):
        found = self.bench(rows[0].suite, [row.name for row in rows])
        for row in rows:
            if row.name in found:
                self.ours[row.name].append(found[row.name])

    def measure_products(self):
        for side, more in (("own", ()), ("cublas", ("--gemm", "cublas"))):
            for name, row in self.bench("ops", [" gemm "], *more, seconds=PRODUCT_SECONDS).items():
                if "gemm" in name:
                    self.products[side][name].append(row["gflops"])

    def measure_free(self):
        """The same training and decoding with products whose order of sums is cuBLAS's."""
        for suite, name in (("train", TRAIN_A), ("decode", DECODE_A)):
            for row in self.bench(suite, [name], "--gemm", "cublas").values():
                if row["name"] == name:  # not the machine's peaks
                    self.free[name].append(row)

    def run_study(self):
        with tempfile.TemporaryDirectory() as directory:
            command = [self.args.swarr, "study", "--preset", "quick", "--device", "cuda"]
            command += ["--data-dir", self.args.data_dir, "--output-dir", directory + "/quick"]
            limit, begin = max(1, min(STUDY_LIMIT, self.left())), time.monotonic()
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=limit)
                self.study_seconds = time.monotonic() - begin
            except (OSError, subprocess.SubprocessError) as error:
                self.errors.add(f"quick study: {error}")

    def run_scaling(self):
        """Its lines are kept as they come, so that what was measured in time remains. Decoding comes first; without it
        there is still the rest."""
        command = [self.args.swarr, "bench", "--device", "cuda", "--dtype", "bf16", "--suite", "scaling", "--overwrite"]
        command += ["--seconds-per-row", str(SCALING_SECONDS)]
        command += ["--json", self.args.output_dir / "scaling.json", "--svg", self.args.output_dir / "scaling.svg"]
        for rows in ("", " forward , train "):
            with self.scaling_lines().open("a") as lines:
                try:
                    limit = max(1, self.left())
                    subprocess.run([*command, "--rows", rows], check=True, stdout=lines, stderr=lines, timeout=limit)
                    return
                except (OSError, subprocess.SubprocessError) as error:
                    self.errors.add(f"scaling: {error}")

    def scaling_lines(self):
        return self.args.output_dir / "scaling.txt"

    # ------------------------------------------------------------------------------------------------------ the sitting
    def measure_round(self, number):
        begin = time.monotonic()
        for batch in BATCHES:
            rows = self.wanted(batch)
            sides = [("swarr", self.measure_ours), ("peers", self.measure_peers)]
            for side, measure in sides if number % 2 == 0 else reversed(sides):
                if rows and self.left() > 1:
                    measure(rows)
                    self.say(f"round {number + 1}, {rows[0].suite}, {side}")
        if "gemm" in self.args.parts:
            self.measure_products()
            self.say(f"round {number + 1}, products")
        self.write_json()
        return time.monotonic() - begin

    def run(self):
        self.start_peers()
        self.await_peers()
        took = self.measure_round(0)
        for part, run in (("study", self.run_study), ("free", self.measure_free)):
            if part in self.args.parts and self.left() > 1:
                run()
                self.say(part)
        reserve = SCALING_RESERVE if "scaling" in self.args.parts else 0
        for number in range(1, self.args.rounds):
            if self.left() < 1.1 * took + reserve:
                break
            took = self.measure_round(number)
        self.end_peers()
        if reserve and self.left() > 1:
            self.run_scaling()
            self.say("scaling")

    # ------------------------------------------------------------------------------------------------------- the report
    def our_figure(self, row, key=None):
        figures = [result[key or row.unit] for result in self.ours.get(row.name, [])]
        return statistics.median(figures) if figures else None

    def their_figures(self, row, key=None):
        """By variant."""
        variants = defaultdict(list)
        for result in self.theirs.get((row.peer, row.name), []):
            if (key or row.unit) in result:
                variants[result["variant"]].append(result[key or row.unit])
        return {variant: statistics.median(figures) for variant, figures in variants.items()}

    def product_ratios(self):
        own, library = self.products["own"], self.products["cublas"]
        both = own.keys() & library.keys()
        return {name: statistics.median(own[name]) / statistics.median(library[name]) for name in own if name in both}

    def row_line(self, row):
        ours, theirs = self.our_figure(row), max(self.their_figures(row).values(), default=None)
        if row.kind == "ratio":
            return [row.name, row.text(ours), row.text(theirs), *judged(ours and theirs and ours / theirs, row.bars)]
        return [row.name, row.text(ours), row.text(theirs), *judged(ours, row.bars, "{:,.0f}", row.kind == "ms")]

    def memory_line(self, row):
        ours = self.our_figure(row, "memory_bytes")
        theirs = min(self.their_figures(row, "memory_bytes").values(), default=None)
        cells = [f"{figure / 2**30:.1f} GiB" if figure else "-" for figure in (ours, theirs)]
        return [f"memory of {row.name}", *cells, *judged(ours and theirs and ours / theirs, MEMORY_BARS, most=True)]

    def table(self):
        lines = [["tokens/s, TFLOP/s", "swarr", "peer", "ratio", "bar", "aim", "met"]]
        ratios = self.product_ratios()
        large = {name: ratio for name, ratio in ratios.items() if name.endswith((" M16384", " dx", " dw"))}
        if large:
            lines.append(["products to cuBLAS, mean", "", "", *judged(geometric_mean(large.values()), PRODUCT_BARS)])
            least = min(large, key=large.get)
            lines.append([f"least: {least}", "", "", *judged(large[least], LEAST_PRODUCT_BARS)])
        lines += map(self.row_line, self.wanted(ROWS))
        lines.append(self.memory_line(ROWS[0]))
        if self.study_seconds:
            lines.append(["quick study, seconds", "", "", *judged(self.study_seconds, STUDY_BARS, "{:.1f}", most=True)])
        return text_table(lines), large

    def exactness_lines(self):
        """What the library's freedom would give: sums of any order, split over k, and atomics."""
        ratios = self.product_ratios()
        for rows in (1, 16, 64, 256):
            few = [ratio for name, ratio in ratios.items() if name.endswith(f" M{rows}")]
            if few:
                yield f"products of {rows} rows, speed to cuBLAS's, geometric mean: {geometric_mean(few):.2f}"
        for name, results in self.free.items():
            row = next(row for row in ROWS if row.name == name)
            free = statistics.median(result[row.unit] for result in results)
            yield f"{name}: own {row.text(self.our_figure(row))}, with cuBLAS's products {row.text(free)}"
        for row in ROWS:
            variants = self.their_figures(row)
            for variant in variants:
                if other := variants.get(variant + ", deterministic"):
                    free = row.text(variants[variant])
                    yield f"{row.name} of {row.peer}, {variant}: {free}, deterministic {row.text(other)}"

    def print_report(self):
        table, large = self.table()
        counts = sorted({len(results) for results in self.ours.values()})
        print(f"\nrounds of a row: {counts}; peers' figures are those of their best variants\n{table}\n")
        for row in self.wanted(ROWS):
            if len(variants := self.their_figures(row)) > 1:
                print(f"{row.name}: " + ", ".join(f"{name} {row.text(figure)}" for name, figure in variants.items()))
            if row.suite == "ops" and (alone := self.their_figures(row, "gflops_alone")):
                print(f"{row.name}, calls of {row.peer} one by one: {row.text(max(alone.values()))}")
        if large:
            names = [name.replace("gemm ", "").replace("backward ", "") for name in large]
            print("\nto cuBLAS: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(names, large.values())))
        print("\n".join(["\nwhat exactness costs", *self.exactness_lines()]))
        if self.scaling_lines().exists():
            print("\n" + re.sub(" +", " ", self.scaling_lines().read_text()))
        print("".join(f"error: {error}\n" for error in sorted(self.errors)))

    def write_json(self):
        everything = {
            "peers": self.said,
            "swarr": self.ours,
            "theirs": {f"{kind}, {name}": results for (kind, name), results in self.theirs.items()},
            "products": self.products,
            "with_cublas": self.free,
            "study_seconds": self.study_seconds,
            "errors": sorted(self.errors),
        }
        (self.args.output_dir / "sitting.json").write_text(json.dumps(everything, indent=1) + "\n")


def judged(figure, bars, form="{:.2f}x", most=False):
    """The cells of a figure, its bars, and whether the first is met."""
    if not figure:
        return ["-", *map(form.format, bars), "?"]
    met = figure <= bars[0] if most else figure >= bars[0]
    return [form.format(figure), *map(form.format, bars), "yes" if met else "no"]


def geometric_mean(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios)))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures swarr and its peers on a GPU in one sitting.")
    parser.add_argument("--swarr", default="build-cuda/swarr", help="the program")
    parser.add_argument("--output-dir", type=pathlib.Path, required=True, help="for figures, logs and JSON")
    parser.add_argument("--seconds", type=float, default=400, help="for everything")
    parser.add_argument("--rounds", type=int, default=5, help="at most; fewer if the time is up")
    parser.add_argument("--rows", default="", help=ROWS_HELP)
    parser.add_argument("--parts", default="gemm,study,free,scaling", help="what else is measured, of these")
    parser.add_argument("--row-seconds", type=float, default=0.3, help="how long one measurement is repeated")
    parser.add_argument("--data-dir", default="data", help="of the study")
    args = parser.parse_args()
    require_rows(parser, [row.name for row in ROWS], args.rows)
    return args


def main():
    sitting = Sitting(parse_arguments())
    (sitting.args.output_dir / "logs").mkdir(parents=True, exist_ok=True)
    sitting.scaling_lines().unlink(missing_ok=True)
    end_by_signals()
    try:
        sitting.run()
    except KeyboardInterrupt:
        sitting.say("ended by a signal")
    finally:
        ignore_signals()
        sitting.end_peers()
        sitting.write_json()
        sitting.print_report()


if __name__ == "__main__":
    main()
