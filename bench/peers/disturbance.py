# SPDX-License-Identifier: Apache-2.0
"""Whether a measurement had the machine to itself: the peaks beside it, and what others computed meanwhile.

There are two peaks. Multiply-adds that never leave the registers show the clock. A product whose operands stay in the
second-level cache issues half as many instructions again, and shows what the first does not: somebody on the core's
other hardware thread, which may be another guest's and is in no load of this system.

Where this run may use more processors than threads, each measurement runs on those that are quickest just before it, one
of a core: on a host that is shared, which ones have a neighbour changes within seconds.
"""
import os
import pathlib
import time
from dataclasses import asdict, dataclass

from common import run_json

PEAK_ROW, PRODUCT_ROW = "peak of f32 multiply-add", "C gemm gate-up M256 packed"
LEAST = {PEAK_ROW: 0.93, PRODUCT_ROW: 0.85}  # of the run's highest; the product varies more by itself
MOST_OTHERS = 0.3  # processors


def busy_seconds(processors):
    """What these processors have computed since the system began, for whomever; stolen time counts too."""
    tick = os.sysconf("SC_CLK_TCK")
    busy = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in processors:
            user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq + steal
    return busy / tick


def core_of(processor):
    """The processors that are hardware threads of its core, as far as this system is told."""
    siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    return siblings.read_text().strip() if siblings.exists() else str(processor)


def loop_seconds(processor):
    """How long a loop of the interpreter takes there: many instructions a cycle, so that a neighbour shows."""
    os.sched_setaffinity(0, {processor})
    slowest = 0.0
    for _ in range(3):
        begin, value = time.perf_counter(), 0
        for number in range(300_000):
            value += number & 7
        slowest = max(slowest, time.perf_counter() - begin)
    return slowest


def quickest(processors, count):
    """So many of the processors, each of a core of its own; all of them where there are not more such cores."""
    if len(processors) <= count:
        return processors
    cores = {}
    for seconds, processor in sorted((loop_seconds(p), p) for p in processors):
        cores.setdefault(core_of(processor), processor)
    return set(list(cores.values())[:count]) if len(cores) >= count else processors


def own_seconds():
    """What this process and those that it has waited for have computed."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class Conditions:
    """Of one round of a row."""

    before: dict  # GFLOP/s of PEAK_ROW and PRODUCT_ROW
    after: dict
    load_before: float  # the system's mean of a minute, this run's own work included
    load_after: float
    others: float  # processors that other programs kept busy, or the host withheld, of those it ran on
    processors: list

    def text(self):
        peaks = "; ".join(f"{at[PEAK_ROW]:.0f}, {at[PRODUCT_ROW]:.0f}" for at in (self.before, self.after))
        load = f"load {self.load_before:.2f}; {self.load_after:.2f}, others {self.others:.2f}"
        return f"{peaks} GFLOP/s, {load}, on {self.processors}"


class Watch:
    """Measures conditions. The highest peaks are those of the run so far."""

    def __init__(self, swarr, threads):
        self.command = [swarr, "bench", "--suite", "ops", "--rows", PRODUCT_ROW, "--seconds-per-row", "0.05"]
        self.command += ["--threads", str(threads)]
        self.threads = threads
        self.allowed = os.sched_getaffinity(0)
        self.highest = {}

    def peaks(self):
        found = {r["name"]: r["gflops"] for r in run_json(self.command, 60)["rows"] if "gflops" in r}
        for name, rate in found.items():
            self.highest[name] = max(rate, self.highest.get(name, 0))
        return found

    def during(self, measure):
        """Calls `measure`; the conditions it had."""
        processors = quickest(self.allowed, self.threads)
        os.sched_setaffinity(0, processors)
        before, load = self.peaks(), os.getloadavg()[0]
        begin, busy, own = time.monotonic(), busy_seconds(processors), own_seconds()
        measure()
        seconds = time.monotonic() - begin
        others = (busy_seconds(processors) - busy - (own_seconds() - own)) / seconds
        return Conditions(before, self.peaks(), load, os.getloadavg()[0], max(0.0, others), sorted(processors))

    def lowest_share(self, conditions):
        """Of the four peaks beside a measurement, each as a share of the least that passes: 1 or more is quiet."""
        beside = (conditions.before, conditions.after)
        return min(at[name] / self.highest[name] / LEAST[name] for at in beside for name in at)

    def is_disturbed(self, conditions):
        return self.lowest_share(conditions) < 1 or conditions.others > MOST_OTHERS


def conditions_json(conditions):
    return asdict(conditions)
