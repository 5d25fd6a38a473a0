# SPDX-License-Identifier: Apache-2.0
"""Whether a measurement had its processors to itself, and which processors to take.

On a host that is shared, somebody may use the other hardware thread of a core, who may be another guest's and is in no
load of this system, or the host may run two of our processors on one core. Hashing tells: it has several instructions a
cycle, so beside a neighbour it takes up to twice as long. Which cores have one changes within half a second. So each
short measurement runs on processors that are quick just before, one by one and then together, and they are looked at
together again just after. Those go first that were quickest lately: some neighbours stay for minutes.
"""
import contextlib
import hashlib
import itertools
import math
import os
import pathlib
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# Of the quickest look of the run: a measurement beside a slower one was disturbed. Looks at a quiet core are within
# 1.05 of the quickest (Zen 5) or 1.2 (Xeon, whose clock moves); beside a neighbour most take 1.6 to 2.2, few between.
MOST_SLOWER = 1.25
MOST_OTHERS = 0.3  # processors that others may keep busy
TICKS = 3  # of the system's clock, by which the count of what others do may be wrong
REST = 0.5  # seconds at most that the threads of a program are given to fall asleep
PATIENCE = 0.2  # seconds at most to wait for quick processors
LATELY = 0.2  # weight of a processor's last look in the mean of its looks
HASHES = 7  # of one look at a processor: 1 to 3 ms
DATA = bytes(128 << 10)


def hash_seconds():
    """Of a loop that needs no memory of its own, whose place would make its time vary. Other threads run meanwhile."""
    begin = time.perf_counter()
    hashlib.sha3_256(DATA)
    return time.perf_counter() - begin


def look_at(processor):
    """The seconds of a hash there: the median of several, so that neither the first nor an interrupt counts."""
    os.sched_setaffinity(0, {processor})  # of this thread
    return statistics.median(hash_seconds() for _ in range(HASHES))


def core_of(processor):
    """The processors that are hardware threads of its core, as far as this system is told."""
    siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    return siblings.read_text().strip() if siblings.exists() else str(processor)


def first_of_cores(processors, count):
    """So many of the processors, each of a core of its own; all of them where there are not more such cores."""
    cores = {}
    for processor in processors:
        cores.setdefault(core_of(processor), processor)
    return list(cores.values())[:count] if len(processors) > count <= len(cores) else list(processors)


def busy_seconds(processors):
    """What these processors have computed since the system began, for whomever; stolen time counts too."""
    busy = 0
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in processors:
            user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq + steal
    return busy / os.sysconf("SC_CLK_TCK")


def fields_of(stat):
    """What /proc says of a process or thread, from its state on."""
    return stat.read_text().rsplit(")", 1)[1].split()


def own_seconds(process):
    """What a process, or a thread, has computed."""
    user, system = fields_of(process / "stat")[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def threads_of(process):
    return list((process / "task").glob("*"))


def is_running(thread):
    try:
        return fields_of(thread / "stat")[0] == "R"
    except OSError:  # it has ended
        return False


def let(thread, processors):
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.sched_setaffinity(int(thread.name), processors)


def bind(process, processors):
    """Each of the threads that have computed most gets a processor of its own. Of sleeping threads that are moved to
    several together, two often wake up on one (Linux 6.18), and share it until the turn is over."""

    def computed(thread):
        try:
            return own_seconds(thread)
        except OSError:  # it has ended
            return 0

    threads = sorted(threads_of(process), key=computed, reverse=True)
    for thread, processor in itertools.zip_longest(threads, processors[: len(threads)]):
        let(thread, set(processors) if processor is None else {processor})


def free(process, processors):
    """So that what it starts between turns is not bound to one."""
    for thread in threads_of(process):
        let(thread, processors)


def await_sleep(process):
    """Threads that wait spin for some time before they sleep; nobody else is measured meanwhile."""
    end = time.monotonic() + REST
    while time.monotonic() < end and any(map(is_running, threads_of(process))):
        time.sleep(0.001)


@dataclass
class Conditions:
    """Of one short measurement."""

    before: dict  # seconds of a look, by processor that it ran on
    after: dict
    seconds: float  # that it took
    others: float  # seconds that others computed there meanwhile, or that the host withheld


class Watch:
    def __init__(self, threads):
        self.threads = threads
        self.allowed = os.sched_getaffinity(0)
        self.least = math.inf  # seconds of a look in this run
        self.lately = {}  # mean seconds of a look, by processor
        self.lookers = ThreadPoolExecutor(len(self.allowed))

    def look(self, processors, at_once):
        """The seconds of a look at each, by processor: one by one, or all at the same time."""
        width = len(processors) if at_once else 1
        seconds = {}
        for begin in range(0, len(processors), width):
            some = processors[begin : begin + width]
            seconds.update(zip(some, self.lookers.map(look_at, some)))
        self.least = min(self.least, *seconds.values())
        for processor, last in seconds.items():
            mean = self.lately.get(processor, last)
            self.lately[processor] = mean + LATELY * (last - mean)
        return seconds

    def are_quick(self, seconds):
        """Whether looks at some processors tell of no neighbour, by the quickest so far."""
        return max(seconds.values()) <= MOST_SLOWER * self.least

    def choose(self):
        """Processors to take now, with the seconds of a look at them together: of those that are quick one by one, those
        that were so lately, and the quickest of the rest. Waits a little for better ones."""
        end = time.monotonic() + PATIENCE
        while True:
            seconds = self.look(sorted(self.allowed), at_once=False)
            quick = [processor for processor in seconds if self.are_quick({processor: seconds[processor]})]
            quick.sort(key=self.lately.get)
            rest = sorted(seconds.keys() - set(quick), key=seconds.get)
            chosen = self.look(first_of_cores(quick + rest, self.threads), at_once=True)
            if self.are_quick(chosen) or time.monotonic() > end:
                return chosen

    def during(self, pid, measure):
        """Binds that process to quick processors and calls `measure`, for which it computes. What that returns, and the
        conditions it had."""
        process = pathlib.Path(f"/proc/{pid}")
        before = self.choose()
        bind(process, list(before))
        begin, busy, own = time.monotonic(), busy_seconds(before), own_seconds(process)
        try:
            result = measure()
            await_sleep(process)
            seconds = time.monotonic() - begin
        finally:
            free(process, self.allowed)
        others = busy_seconds(before) - busy - (own_seconds(process) - own)
        return result, Conditions(before, self.look(list(before), at_once=True), seconds, max(0.0, others))

    def is_quiet(self, conditions):
        """By the quickest look so far, so ask when the run is over."""
        unknown = TICKS / os.sysconf("SC_CLK_TCK")
        alone = conditions.others <= MOST_OTHERS * conditions.seconds + unknown
        return alone and self.are_quick(conditions.before) and self.are_quick(conditions.after)
