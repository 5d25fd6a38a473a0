# SPDX-License-Identifier: Apache-2.0
"""Turns: who takes them and how many, and which of them a figure comes from."""
import time
import unittest
from unittest import mock

from stand_ins import Way, contest
from common import SideError
from turns import KEPT, run

BOTH = ["swarr", "torch"]
FOREVER, PAST = 1e300, -1.0


class WhoGoesOn(unittest.TestCase):
    def test_every_second_turn_is_in_the_opposite_order(self):
        calls = []
        made = contest([Way("swarr", [1], calls=calls), Way("torch", [1], calls=calls)], turns=3)
        order = [label for what, label in calls if what == "measure"]
        self.assertEqual(order, ["swarr", "torch", "torch", "swarr", "swarr", "torch"])
        self.assertEqual(made.turns, 3)

    def test_a_way_far_behind_goes_after_one_turn_and_one_that_is_not_as_good_after_two(self):
        best, near, behind, far = (Way("torch", [speed]) for speed in (100, 91, 89, 59))
        made = contest([best, near, behind, far], turns=4)
        self.assertEqual([way.measured() for way in (best, near, behind, far)], [4, 4, 2, 1])
        self.assertEqual([entrant.way for entrant in made.of_side("torch")], [best, near])

    def test_a_way_is_held_against_its_own_side_alone(self):
        slow = Way("torch", [1])
        contest([Way("swarr", [100]), slow], turns=4)
        self.assertEqual(slow.measured(), 4)

    def test_two_turns_decide_by_their_median(self):
        unlucky = Way("torch", [70, 120])  # 95 in the median
        contest([Way("torch", [100]), unlucky], turns=3)
        self.assertEqual(unlucky.measured(), 3)

    def test_a_way_that_fails_takes_no_further_turn_and_its_side_goes_on_with_another(self):
        failing, other = Way("torch", [100, "it broke"]), Way("torch", [95])
        made = contest([failing, other], turns=4)
        self.assertEqual([failing.measured(), other.measured()], [2, 4])
        self.assertEqual(made.best("torch").way, other)
        self.assertEqual([entrant.error for entrant in made.entrants], ["it broke", ""])
        self.assertTrue(made.failed(["torch"]))
        self.assertFalse(made.failed(["swarr"]))

    def test_a_way_that_can_not_prepare_is_never_measured(self):
        unready = Way("torch", [1])
        unready.prepare = mock.Mock(side_effect=SideError("not here"))
        made = contest([Way("swarr", [1]), unready], turns=2)
        self.assertEqual(unready.measured(), 0)
        self.assertIsNone(made.best("torch"))


class Figures(unittest.TestCase):
    def test_the_quiet_turns_count_where_each_side_has_enough(self):
        swarr = Way("swarr", [10, 10, 100, 30, 50], loud=(2,))
        torch = Way("torch", [5, 5, 5, 1, 1], loud=(3, 4))
        made = contest([swarr, torch], quiet=3, turns=5)
        quiet = made.figures(BOTH, quiet_only=True)
        self.assertEqual((quiet.medians, quiet.turns), ([20, 5], [4, 3]))
        self.assertEqual(quiet.ratio, 4)
        self.assertFalse(made.lacks_quiet_turns(BOTH))
        self.assertEqual(made.counting(BOTH), quiet)

    def test_all_turns_count_where_one_side_has_too_few_quiet_ones(self):
        swarr, torch = Way("swarr", [10, 20, 30]), Way("torch", [5, 4, 3], loud=(0, 2))
        made = contest([swarr, torch], quiet=2, turns=3)
        self.assertTrue(made.lacks_quiet_turns(BOTH))
        self.assertFalse(made.lacks_quiet_turns(["swarr"]))
        self.assertEqual((made.counting(BOTH).medians, made.counting(BOTH).turns), ([20, 4], [3, 3]))
        self.assertEqual(made.figures(BOTH, quiet_only=True).turns, [3, 1])

    def test_a_side_without_a_quiet_turn_has_no_quiet_figure_and_one_without_ways_none_at_all(self):
        loud = contest([Way("swarr", [1]), Way("torch", [1], loud=range(9))], turns=3)
        self.assertIsNone(loud.figures(BOTH, quiet_only=True))
        self.assertEqual(loud.counting(BOTH).turns, [3, 3])
        broken = contest([Way("swarr", [1]), Way("torch", ["it broke"])], turns=3)
        self.assertIsNone(broken.counting(BOTH))

    def test_a_side_counts_by_the_way_that_is_best_in_the_median(self):
        steady, lucky = Way("torch", [100]), Way("torch", [95, 95, 1000])
        self.assertEqual(contest([lucky, steady], turns=3).best("torch").way, steady)

    def test_ops_count_by_their_rate(self):
        made = contest([Way("swarr", [7], unit="gflops")], turns=1)
        self.assertEqual(made.counting(["swarr"]).medians, [7])

    def test_json_has_every_part_with_its_turn_and_whether_it_was_quiet(self):
        made = contest([Way("swarr", [7, "it broke"], loud=(0,), variant="fused")], turns=3)
        part = {"turn": 0, "tokens_per_second": 7, "quiet": False}
        entrant = {"side": "swarr", "dtype": "f32", "variant": "fused", "error": "it broke", "parts": [part]}
        self.assertEqual(made.json(), [entrant])


class HowManyTurns(unittest.TestCase):
    def turns_of(self, ways, groups=(BOTH,), end=FOREVER, **more):
        made = contest(ways, **more)
        run([made], groups, end)
        return made.turns

    def test_those_asked_for_where_enough_were_quiet(self):
        self.assertEqual(self.turns_of([Way("swarr", [1]), Way("torch", [1])], least=4, quiet=4), 4)

    def test_more_until_enough_were_quiet(self):
        self.assertEqual(self.turns_of([Way("swarr", [1]), Way("torch", [1], loud=range(3))], least=4, quiet=3), 6)

    def test_three_times_as_many_at_most(self):
        self.assertEqual(self.turns_of([Way("swarr", [1]), Way("torch", [1], loud=range(99))], least=4, quiet=1), 12)

    def test_none_more_where_a_side_of_every_group_is_gone(self):
        ways = [Way("swarr", [1]), Way("torch", ["it broke"])]
        self.assertEqual(self.turns_of(ways, least=4, quiet=1), 1)

    def test_a_group_that_is_gone_does_not_hold_up_another(self):
        ways = [Way("swarr", [1]), Way("torch", ["it broke"]), Way("other", [1])]
        self.assertEqual(self.turns_of(ways, groups=(BOTH, ["swarr", "other"]), least=4, quiet=1), 4)

    def test_those_that_decide_between_ways_even_when_the_time_is_up(self):
        self.assertEqual(self.turns_of([Way("swarr", [1]), Way("torch", [1])], end=PAST), max(KEPT))

    def test_none_begins_that_would_end_too_late(self):
        class Slow(Way):
            def measure(self):
                time.sleep(0.02)
                return super().measure()

        begin = time.monotonic()
        turns = self.turns_of([Slow("swarr", [1])], groups=(["swarr"],), end=begin + 0.11, least=50)
        self.assertLessEqual(time.monotonic() - begin, 0.11 + 0.02)
        self.assertGreaterEqual(turns, max(KEPT))
        self.assertLess(turns, 6)

    def test_a_contest_that_is_done_waits_for_nobody_and_all_are_ended(self):
        calm, loud = Way("swarr", [1]), Way("swarr", [1], loud=range(2))
        contests = [contest([way], least=2, quiet=2) for way in (calm, loud)]
        run(contests, [["swarr"]], FOREVER)
        self.assertEqual([made.turns for made in contests], [2, 4])
        for way in (calm, loud):
            self.assertEqual(way.calls[-1], ("end", "swarr"))


if __name__ == "__main__":
    unittest.main()
