# SPDX-License-Identifier: Apache-2.0
"""The sides of compare.py: swarr and PyTorch, each of which prepares a row and then measures it when asked.

A way to compute a row has a label (its side), dtype, variant and pid; prepare(); measure(), which returns a row of
results; and end(). They raise SideError.
"""
import json
import os
import pathlib
import re

from common import SideError
from cpu_rows import DTYPES
from servers import Server

TORCH_SCRIPT = pathlib.Path(__file__).resolve().parent / "torch_cpu.py"
LIMIT = 120  # seconds for one answer: beyond it something hangs
PEAK_ROW, PRODUCT_ROW = "peak of f32 multiply-add", "C gemm gate-up M256 packed"
PEAK_SECONDS = 0.03  # of the product; a peak takes what it takes
# They make OpenBLAS take kernels or block sizes other than those it would choose for this processor, or waiting threads
# spin on while the other side is measured. Each side is measured at its best, and sleeps when it waits.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def environment_of(threads):
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "OMP_NUM_THREADS": str(threads)}


class Swarr:
    """The program: one row in one dtype has a process of its own."""

    label = "swarr"

    def __init__(self, args, logs):
        self.args, self.logs = args, logs
        self.details = {}
        self.peak_ways = [SwarrWay(self, "ops", name, "f32", PEAK_SECONDS) for name in (PEAK_ROW, PRODUCT_ROW)]

    def command(self, suite, rows, dtype, seconds):
        command = [self.args.swarr, "bench", "--suite", suite, "--rows", rows, "--dtype", dtype]
        return [*command, "--threads", str(self.args.threads), "--seconds-per-row", str(seconds)]

    def peaks(self, watch):
        """GFLOP/s, measured as a turn of a row is: multiply-adds that never leave the registers, and a product with
        operands in the second-level cache, which somebody on the core's other hardware thread slows."""
        for way in self.peak_ways:
            if not way.server:
                way.prepare()
        return {way.name: watch.during(way.pid, way.measure)[0]["gflops"] for way in self.peak_ways}

    def end(self):
        for way in self.peak_ways:
            way.end()

    def ways(self, row, dtypes):
        return [SwarrWay(self, row.suite, row.name, dtype, self.args.turn_seconds) for dtype in dtypes]

    def op(self, name):
        return SwarrWay(self, "ops", name, "f32", self.args.op_seconds)


class SwarrWay:
    label, variant = Swarr.label, None

    def __init__(self, program, suite, name, dtype, seconds):
        self.program, self.name, self.dtype = program, name, dtype
        self.command = program.command(suite, name, dtype, seconds) + ["--on-request"]
        self.server = None

    def prepare(self):
        log = self.program.logs / (re.sub(r"\W+", "_", f"swarr {self.name} {self.dtype}") + ".log")
        self.server = Server(self.command, log, environment_of(self.program.args.threads))
        said = self.server.answer(LIMIT)
        self.program.details = {key: said[key] for key in ("version", "revision", "cpu", "gemm", "threads")}

    @property
    def pid(self):
        return self.server.pid

    def measure(self):
        return self.server.ask("", LIMIT)

    def end(self):
        if self.server:
            self.server.end()


class Torch:
    """PyTorch in one interpreter: one process for all rows."""

    def __init__(self, args, logs, python):
        self.python = python
        command = [python, str(TORCH_SCRIPT), "--turn-seconds", str(args.turn_seconds), "--threads", str(args.threads)]
        log = logs / (re.sub(r"\W+", "_", python) + ".log")
        self.server = Server(command, log, environment_of(args.threads))
        try:
            self.details = self.server.answer(LIMIT)
        except BaseException:  # a signal too: nobody else knows of this process yet
            self.end()
            raise
        self.label = "torch " + self.details["torch"].split("+")[0]

    def ask(self, verb, name, dtype, variant):
        answer = self.server.ask(json.dumps([verb, name, dtype, variant]), LIMIT)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer

    def check(self):
        """What it is found to compute, by dtype and variant; of the small shape, for it takes some seconds. Raises
        SideError where that is wrong."""
        ways = [(dtype, variant) for dtype in DTYPES for variant in self.details["variants"]]
        return {", ".join(way): self.ask("check", "D", *way) for way in ways}

    def ways(self, row, dtypes):
        return [TorchWay(self, row.name, dtype, variant) for dtype in dtypes for variant in self.details["variants"]]

    def end(self):
        self.server.end()


class TorchWay:
    def __init__(self, torch, name, dtype, variant):
        self.torch, self.label = torch, torch.label
        self.name, self.dtype, self.variant = name, dtype, variant

    def prepare(self):
        self.torch.ask("prepare", self.name, self.dtype, self.variant)

    @property
    def pid(self):
        return self.torch.server.pid

    def measure(self):
        return self.torch.ask("measure", self.name, self.dtype, self.variant)

    def end(self):
        """The process keeps what it has until it prepares another row."""
