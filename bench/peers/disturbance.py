# SPDX-License-Identifier: Apache-2.0
"""Whether a measurement had the machine to itself: the peak beside it, and what others computed meanwhile."""
import os
import pathlib
import time
from dataclasses import asdict, dataclass

from common import run_json

PEAK_ROW = "peak of f32 multiply-add"
LEAST_PEAK = 0.93  # of the highest peak of the run
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


def own_seconds():
    """What this process and those that it has waited for have computed."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class Conditions:
    """Of one round of a row."""

    peak_before: float  # GFLOP/s, measured
    peak_after: float
    load_before: float  # the system's mean of a minute, this run's own work included
    load_after: float
    others: float  # processors that other programs kept busy, or the host withheld, of those this run may use

    def is_disturbed(self, highest_peak):
        return min(self.peak_before, self.peak_after) < LEAST_PEAK * highest_peak or self.others > MOST_OTHERS

    def text(self):
        return (
            f"peak {self.peak_before:.0f} and {self.peak_after:.0f} GFLOP/s, "
            f"load {self.load_before:.2f} and {self.load_after:.2f}, others {self.others:.2f}"
        )


class Watch:
    """Measures conditions. The highest peak is that of the run so far."""

    def __init__(self, swarr, threads):
        self.command = [swarr, "bench", "--suite", "ops", "--rows", "D gemm head M1 packed", "--seconds-per-row", "0.01"]
        self.command += ["--threads", str(threads)]
        self.processors = os.sched_getaffinity(0)
        self.highest_peak = 0

    def peak(self):
        rows = run_json(self.command, 60)["rows"]
        peak = next(row["gflops"] for row in rows if row["name"] == PEAK_ROW)
        self.highest_peak = max(self.highest_peak, peak)
        return peak

    def during(self, measure):
        """Calls `measure`; the conditions it had."""
        peak, load = self.peak(), os.getloadavg()[0]
        begin, busy, own = time.monotonic(), busy_seconds(self.processors), own_seconds()
        measure()
        seconds = time.monotonic() - begin
        others = (busy_seconds(self.processors) - busy - (own_seconds() - own)) / seconds
        return Conditions(peak, self.peak(), load, os.getloadavg()[0], max(0.0, others))

    def is_disturbed(self, conditions):
        return conditions.is_disturbed(self.highest_peak)


def conditions_json(conditions):
    return asdict(conditions)
