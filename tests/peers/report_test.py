# SPDX-License-Identifier: Apache-2.0
"""What compare.py's report says of a row: ratio, bar, marks of too few quiet turns, errors."""
import contextlib
import io
import json
import unittest
from types import SimpleNamespace
from unittest import mock

from stand_ins import Way, contest
import peers_report
from compare import Comparison, Measured, Moment
from cpu_rows import Row, Share
from sides import PEAK_ROW, PRODUCT_ROW, Swarr

TURNS = 3
PEER = SimpleNamespace(label="torch 2", python="python3", details={"product_gflops": 200.0})


def row_of(swarr, torch, dtypes=("f32",), bar=1.5, turns=TURNS):
    """A row that was measured, with the same ways for each key."""
    row = Row("C train B16 T256 full", dict.fromkeys(dtypes, bar), 1)
    contests = {key: contest([swarr(), torch()], quiet=2, turns=turns) for key in dtypes}
    return Measured(row, contests, Moment({PEAK_ROW: 300.0, PRODUCT_ROW: 250.0}, 1.5))


def share_of(rates, loud=(), at_least=0.7):
    """`loud`: turns of the last op."""
    ops = {f"op {i}": Way("swarr", [rate], unit="gflops") for i, rate in enumerate(rates)}
    list(ops.values())[-1].loud = loud
    contests = {op: contest([way], quiet=2, turns=TURNS) for op, way in ops.items()}
    share = Share("products, M = 16", list(ops), at_least, 1)
    before, after = (Moment({PEAK_ROW: peak, PRODUCT_ROW: 250.0}, 1.5) for peak in (300.0, 350.0))
    return Measured(share, contests, before, after)


def comparison_of(*measured):
    return SimpleNamespace(
        swarr=SimpleNamespace(details={"revision": "abc"}),
        peers=[PEER],
        checks={"torch 2": "the check fails"},
        measured=list(measured),
        highest={PEAK_ROW: 400.0},
        watch=SimpleNamespace(is_quiet=lambda conditions: conditions.quiet, least=0.001),
    )


class BesidePyTorch(unittest.TestCase):
    def line(self, swarr, torch, **more):
        return list(peers_report.row_lines(row_of(swarr, torch, **more), PEER))[0]

    def test_the_ratio_of_medians_is_held_against_the_bar(self):
        line = self.line(lambda: Way("swarr", [3000]), lambda: Way("torch 2", [2000, 1000, 1500]))
        self.assertEqual(line[1:], ["3,000", "1,500", "2.00x (3, 3)", "2.00x (3, 3)", "1.50x", "yes"])
        line = self.line(lambda: Way("swarr", [1499]), lambda: Way("torch 2", [1000]))
        self.assertEqual(line[-1], "no")

    def test_a_row_with_too_few_quiet_turns_is_marked_and_all_turns_count(self):
        for swarr_loud, torch_loud, turns in (((0, 1), (), "1, 3"), ((), (1, 2), "3, 1")):
            line = self.line(
                lambda: Way("swarr", [4000, 3000, 2000], swarr_loud), lambda: Way("torch 2", [1000], torch_loud)
            )
            self.assertTrue(line[3].endswith(f"({turns})"), line)
            self.assertEqual([line[1], *line[4:]], ["3,000", "3.00x (3, 3)", "1.50x", "yes, few quiet turns"])
        line = self.line(lambda: Way("swarr", [1000]), lambda: Way("torch 2", [1000], range(9)))
        self.assertEqual(line[3:], ["-", "1.00x (3, 3)", "1.50x", "no, few quiet turns"])

    def test_the_turns_that_count_give_speeds_and_verdict(self):
        swarr = Way("swarr", [1000, 9000, 9000, 1000], loud=(1, 2))
        line = self.line(lambda: swarr, lambda: Way("torch 2", [1000]), turns=4)
        self.assertEqual(line[1:5], ["1,000", "1,000", "1.00x (2, 4)", "5.00x (4, 4)"])
        self.assertEqual(line[6], "no")

    def test_a_side_that_failed_is_an_error_and_has_no_ratio(self):
        line = self.line(lambda: Way("swarr", [1000]), lambda: Way("torch 2", ["it broke"]))
        self.assertEqual(line[1:], ["1,000", "-", "-", "-", "1.50x", "error"])

    def test_a_row_without_turns_is_open(self):
        row = row_of(lambda: Way("swarr", [1]), lambda: Way("torch 2", [1]))
        row.contests = {"f32": contest([Way("swarr", [1]), Way("torch 2", [1])])}
        self.assertEqual(list(peers_report.row_lines(row, PEER))[0][1:], ["-", "-", "-", "-", "1.50x", "?"])

    def test_each_dtype_has_a_line_and_the_best_of_dtypes_says_which_it_is(self):
        both = row_of(lambda: Way("swarr", [1]), lambda: Way("torch 2", [1]), dtypes=("f32", "bf16"))
        names = [line[0] for line in peers_report.row_lines(both, PEER)]
        self.assertEqual(names, ["C train B16 T256 full, f32", "C train B16 T256 full, bf16"])
        best = self.line(
            lambda: Way("swarr", [9], dtype="bf16"), lambda: Way("torch 2", [3], variant="fused"), dtypes=("best",)
        )
        self.assertEqual(best[:3], ["C train B16 T256 full", "9 bf16", "3 f32 fused"])


class BesideThePeak(unittest.TestCase):
    def test_the_smallest_share_of_the_highest_peak_counts(self):
        line = peers_report.share_line(share_of([300, 280, 320]), 400.0)
        self.assertEqual(line, ["products, M = 16", "op 1", "70% (3)", "70% (3)", "80%", "80%", "70%", "yes"])
        self.assertEqual(peers_report.share_line(share_of([300, 279, 320]), 400.0)[-1], "no")

    def test_the_share_of_the_higher_peak_beside_the_row_is_told(self):
        share = share_of([300, 280])
        self.assertEqual(peers_report.share_line(share, 400.0)[4], "80%")  # 280 of 350
        share.after = None
        self.assertEqual(peers_report.share_line(share, 400.0)[4], "93%")

    def test_too_few_quiet_turns_of_one_op_are_marked(self):
        for rates in ([280], [300, 280]):
            line = peers_report.share_line(share_of(rates, loud=(0, 1)), 400.0)
            self.assertEqual(line[-1], "yes, few quiet turns")

    def test_a_share_is_open_while_an_op_has_no_turn(self):
        share = share_of([300, 280])
        share.contests["op 1"] = contest([Way("swarr", [1], unit="gflops")])
        self.assertEqual(peers_report.share_line(share, 400.0), ["products, M = 16", *"-----", "70%", "?"])


class Peaks(unittest.TestCase):
    def test_they_are_measured_as_turns_are_by_programs_that_are_prepared_once(self):
        arguments = SimpleNamespace(swarr="swarr", threads=2)
        swarr, watch = Swarr(arguments, None), mock.Mock()
        for way in swarr.peak_ways:
            way.prepare = mock.Mock(side_effect=lambda way=way: setattr(way, "server", mock.Mock(pid=way.name)))
        watch.during.side_effect = lambda pid, measure: ({"gflops": f"of {pid}"}, None)
        for _ in range(2):
            self.assertEqual(swarr.peaks(watch), {name: f"of {name}" for name in (PEAK_ROW, PRODUCT_ROW)})
        for way in swarr.peak_ways:
            way.prepare.assert_called_once()
            self.assertIn(mock.call(way.name, way.measure), watch.during.call_args_list)
            self.assertIn("--on-request", way.command)
        swarr.end()
        for way in swarr.peak_ways:
            way.server.end.assert_called_once()

    def test_the_highest_of_the_run_counts_also_what_ops_found_as_they_began(self):
        comparison = Comparison(None, None, None)
        for rate in (300.0, 200.0):
            comparison.note_peak(PEAK_ROW, rate)
        self.assertEqual(comparison.highest, {PEAK_ROW: 300.0})
        comparison.measured = [share_of([300, 280])]
        part = comparison.measured[0].contests["op 1"].entrants[0].parts[1]
        part.result["peak_share"] = 0.7
        comparison.note_ops_peaks()
        self.assertAlmostEqual(comparison.highest[PEAK_ROW], 400.0)


class TheWhole(unittest.TestCase):
    def setUp(self):
        row = row_of(lambda: Way("swarr", [3000]), lambda: Way("torch 2", [1000, "it broke"]))
        self.comparison = comparison_of(share_of([300, 280]), row)
        self.environment = {"processor": "a chip", "processors": [0, 3], "threads": 2, "load_before": 0.25}

    def test_the_report_has_tables_checks_errors_and_moments(self):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            peers_report.print_report(self.environment, self.comparison)
        for text in (
            "a chip, processors 0,3, 2 threads, f32 peak 400 GFLOP/s, load before 0.25",
            "| C train B16 T256 full, f32 ",
            "| products, M = 16 ",
            "torch 2: the check fails",
            "error: a row: torch 2 f32: it broke",
            "  C train B16 T256 full: 300, 250; -; load 1.50; 4 of 4 quiet",
        ):
            self.assertIn(text, printed.getvalue())

    def test_json_has_all_that_was_measured_and_no_number_that_json_lacks(self):
        text = json.dumps(peers_report.report_json(self.environment, self.comparison), allow_nan=False)
        share, row = json.loads(text)["measured"]
        self.assertEqual(share["contests"]["op 1"]["figures"][0]["quiet"], {"medians": [280], "turns": [3]})
        self.assertEqual(row["contests"]["f32"]["figures"][0]["sides"], ["swarr", "torch 2"])
        self.assertIsNone(row["contests"]["f32"]["figures"][0]["all"])
        self.assertEqual([len(e["parts"]) for e in row["contests"]["f32"]["entrants"]], [3, 1])

    def test_a_check_that_passed_names_the_product_and_the_equal_logprobs(self):
        found = {"f32, plain": 0.5, "f32, fused": 0.75, "bf16, plain": 0.25, "bf16, fused": 0.0}
        line = peers_report.check_line(PEER, {way: {"bit_equal_logprobs": share} for way, share in found.items()})
        self.assertIn("f32 product 200 GFLOP/s", line)
        self.assertTrue(line.endswith("f32 at most 75%, bf16 at most 25%"))


if __name__ == "__main__":
    unittest.main()
