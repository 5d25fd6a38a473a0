# SPDX-License-Identifier: Apache-2.0
"""What the tests of bench/peers share: the scripts' folder on the path, and stand-ins for sides and for the watch."""
import pathlib
import sys
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))

from common import SideError
from turns import Contest


@dataclass
class Told:
    """Conditions that say themselves whether they were quiet."""

    quiet: bool


class ToldWatch:
    """Gives each measurement the conditions that its way tells."""

    def during(self, pid, measure):
        result, quiet = measure()
        return result, Told(quiet)

    def is_quiet(self, conditions):
        return conditions.quiet


class Way:
    """One way of a side: a speed for each turn, or an error in place of one, the last again and again; `loud` are the
    turns that are not quiet, counted from 0. What is called is noted in `calls`, which ways may share."""

    pid = 1

    def __init__(self, label, speeds, loud=(), unit="tokens_per_second", dtype="f32", variant=None, calls=None):
        self.label, self.speeds, self.loud, self.unit = label, speeds, loud, unit
        self.dtype, self.variant = dtype, variant
        self.calls = [] if calls is None else calls
        self.turn = 0

    def prepare(self):
        self.calls.append(("prepare", self.label))

    def measure(self):
        self.calls.append(("measure", self.label))
        turn, self.turn = self.turn, self.turn + 1
        speed = self.speeds[min(turn, len(self.speeds) - 1)]
        if isinstance(speed, str):
            raise SideError(speed)
        return {self.unit: speed}, turn not in self.loud

    def end(self):
        self.calls.append(("end", self.label))

    def measured(self):
        return self.calls.count(("measure", self.label))


def contest(ways, least=4, quiet=2, turns=0):
    """One that took so many turns."""
    made = Contest(ToldWatch(), "a row", ways, least, 3 * least, quiet)
    made.prepare()
    for _ in range(turns):
        made.take_turn()
    return made
