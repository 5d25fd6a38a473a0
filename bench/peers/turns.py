# SPDX-License-Identifier: Apache-2.0
"""Measuring in turns: each side of a comparison computes for a short time, one after the other, many times."""
import statistics
import time
from dataclasses import asdict, dataclass, field

from common import SideError

# Of a side's ways to compute a row, the better one goes on after two turns, and others that are nearly as good. One
# that is far behind goes after the first: a neighbour can't explain that.
KEPT = {1: 0.6, 2: 0.9}  # after so many turns, the part of the best way's speed
UNITS = ("tokens_per_second", "gflops")


@dataclass
class Part:
    """What one way had in one turn."""

    result: dict
    conditions: object

    @property
    def speed(self):
        return next(self.result[unit] for unit in UNITS if unit in self.result)


@dataclass
class Entrant:
    """A way to compute a row (sides.py), and what it had so far, by turn."""

    way: object
    parts: dict = field(default_factory=dict)
    goes_on: bool = True
    error: str = ""

    def median(self):
        return statistics.median(part.speed for part in self.parts.values())

    def text(self):
        return ", ".join(filter(None, (self.way.dtype, self.way.variant)))


@dataclass
class Figures:
    """The medians of some sides, each over so many turns."""

    medians: list
    turns: list

    @property
    def ratio(self):
        return self.medians[0] / self.medians[1]


class Contest:
    """Entrants that take turns: `least`, and up to `most` while fewer than `quiet` of them were quiet."""

    def __init__(self, watch, name, ways, least, most, quiet):
        self.watch, self.name, self.least, self.most, self.quiet = watch, name, least, most, quiet
        self.entrants = [Entrant(way) for way in ways]
        self.turns = 0

    def labels(self):
        return list(dict.fromkeys(entrant.way.label for entrant in self.entrants))

    def of_side(self, label):
        return [e for e in self.entrants if e.way.label == label and e.goes_on]

    def failed(self, labels):
        return any(entrant.error for entrant in self.entrants if entrant.way.label in labels)

    def call(self, entrant, action):
        """A way that fails takes no further turn."""
        try:
            return action()
        except SideError as error:
            entrant.error, entrant.goes_on = str(error), False

    def prepare(self):
        for entrant in self.entrants:
            self.call(entrant, entrant.way.prepare)

    def end(self):
        for entrant in self.entrants:
            entrant.way.end()

    def take_turn(self):
        """In the opposite order every second time."""
        for entrant in self.entrants[:: 1 if self.turns % 2 == 0 else -1]:
            if entrant.goes_on:
                measured = self.call(entrant, lambda way=entrant.way: self.watch.during(way.pid, way.measure))
                if measured:
                    entrant.parts[self.turns] = Part(*measured)
        self.turns += 1
        if self.turns in KEPT:
            for label in self.labels():
                side = self.of_side(label)
                best = max((entrant.median() for entrant in side), default=0)
                for entrant in side:
                    entrant.goes_on = entrant.median() >= KEPT[self.turns] * best

    def best(self, label):
        """The side's fastest way."""
        side = [entrant for entrant in self.of_side(label) if entrant.parts]
        return max(side, key=Entrant.median, default=None)

    def figures(self, labels, quiet_only):
        """None if a side has no such turn. A quiet turn of one side need not be a quiet one of the other: alone on its
        core each has the same machine."""
        entrants = [self.best(label) for label in labels]
        parts = [list(entrant.parts.values()) if entrant else [] for entrant in entrants]
        if quiet_only:
            parts = [[part for part in side if self.watch.is_quiet(part.conditions)] for side in parts]
        if not all(parts):
            return None
        return Figures([statistics.median(part.speed for part in side) for side in parts], list(map(len, parts)))

    def lacks_quiet_turns(self, labels):
        found = self.figures(labels, quiet_only=True)
        return not found or min(found.turns) < self.quiet

    def counting(self, labels):
        """The figures that count: over the quiet turns, or over all where those are too few."""
        return self.figures(labels, quiet_only=not self.lacks_quiet_turns(labels))

    def is_done(self, groups):
        """Whether the sides of all these groups had what they should, or can't have it."""
        groups = [labels for labels in groups if all(map(self.of_side, labels))]
        if self.turns >= self.most or not groups:
            return True
        return self.turns >= self.least and not any(self.lacks_quiet_turns(labels) for labels in groups)

    def json(self):
        def part(turn, one):
            return {"turn": turn, **one.result, **asdict(one.conditions), "quiet": self.watch.is_quiet(one.conditions)}

        return [
            {
                "side": e.way.label,
                "dtype": e.way.dtype,
                "variant": e.way.variant,
                "error": e.error,
                "parts": [part(turn, one) for turn, one in e.parts.items()],
            }
            for e in self.entrants
        ]


def run(contests, groups, end):
    """Has the contests take their turns, one after another, until all are done or `end` (of time.monotonic()) comes;
    but those turns that decide between the ways of a side are always taken. `groups`: whose figures are compared."""
    for contest in contests:
        contest.prepare()
    took = 0
    while waiting := [contest for contest in contests if not contest.is_done(groups)]:
        begin = time.monotonic()
        if begin + took > end and waiting[0].turns >= max(KEPT):
            break
        for contest in waiting:
            contest.take_turn()
        took = time.monotonic() - begin
    for contest in contests:
        contest.end()
