# SPDX-License-Identifier: Apache-2.0
"""compare.py and sitting.py as programs, beside stand-ins for swarr and PyTorch: what they report at their end, also
where a signal ends them."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from stand_ins import PEERS

HERE = pathlib.Path(__file__).resolve().parent
ROW, SHARE = "D decode B1 sampled full", "attention T1024 full"
# Runs the script without waiting for quiet processors, which may not come while tests run.
RUN = "import sys, disturbance; disturbance.PATIENCE, disturbance.HASHES = 0, 1; import {0}; {0}.main()"
LIMIT = 60


class Run:
    """A script that was run to its end."""

    def __init__(self, script, arguments, environment):
        environment = {**os.environ, "PYTHONPATH": str(PEERS), **environment}
        command = [sys.executable, "-S", "-c", RUN.format(script), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


class InADirectory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.swarr, self.torch = map(self.program, ("fake_swarr", "fake_python"))

    def program(self, stand_in):
        """A file that runs it, quickly: without what site-packages ask for."""
        path = self.directory / stand_in
        path.write_text(f"#!{sys.executable} -S\n" + (HERE / f"{stand_in}.py").read_text())
        path.chmod(0o755)
        return path


class Compare(InADirectory):
    def run_rows(self, rows, **environment):
        self.json = self.directory / "report.json"
        arguments = ["--swarr", self.swarr, "--pythons", self.torch, "--rows", rows, "--seconds", 0]
        return Run("compare", [*arguments, "--json", self.json], environment)

    def turns(self):
        measured = json.loads(self.json.read_text())["measured"]
        return {one["name"]: [contest["turns"] for contest in one["contests"].values()] for one in measured}

    def test_a_whole_run_reports_each_row_with_its_ratio(self):
        run = self.run_rows(f"{ROW},{SHARE}")
        self.assertEqual((run.status, self.turns()), (0, {SHARE: [2, 2], ROW: [2]}), run.err)
        self.assertRegex(run.out, rf"\| {ROW} +\| 200 \w+ +\| 100 \w+ plain +\|.*\| 2\.00x \(2, 2\) +\| 10\.00x +\| no")
        self.assertRegex(run.out, rf"\| {SHARE} +\| C attention.*\| 70% \(2\) +\| 70% +\| 70% +\| 50% +\| yes")
        self.assertIn("torch 2.0: computes what it claims; f32 product 150 GFLOP/s", run.out)
        self.assertNotIn("Ended before", run.out)

    def test_a_signal_amid_turns_ends_the_run_with_a_report(self):
        run = self.run_rows(f"{SHARE},{ROW}", FAKE_SIGNALS="2 SIGTERM")
        self.assertEqual((run.status, self.turns()), (0, {SHARE: [1, 1]}), run.err)
        self.assertIn("Ended before all rows were measured.", run.out)
        self.assertRegex(run.out, rf"\| {SHARE} +\| C attention.*\| 70% \(1\)")

    def test_signals_after_the_first_do_not_cost_the_report(self):
        run = self.run_rows(SHARE, FAKE_SIGNALS="2 SIGTERM SIGINT SIGTERM")
        self.assertEqual((run.status, self.turns()), (0, {SHARE: [1, 1]}), run.err)

    def test_a_signal_while_a_peer_starts_leaves_no_process(self):
        started = self.directory / "pid"
        run = self.run_rows(ROW, FAKE_TORCH_STARTS=str(started))
        self.assertIn("nothing was measured", run.err)
        self.assertFalse(pathlib.Path("/proc", started.read_text()).exists())

    def test_without_a_row_or_a_program_it_says_so(self):
        for rows in ("B17", f"{ROW},B17,{SHARE}"):
            run = self.run_rows(rows)
            self.assertEqual(run.status, 2)
            self.assertIn("none has 'B17' in its name", run.err)
            self.assertIn(f"; {SHARE}; ", run.err)
        run = self.run_rows(SHARE, FAKE_ERROR="no such shape")
        self.assertEqual((run.status, run.err.splitlines()[-1]), (1, "compare.py: no such shape"))


class Sitting(InADirectory):
    ROW = "A rl B384 T100 W128"  # no peer has it

    def run_rounds(self, *more, **environment):
        (self.directory / "torch.py").write_text("raise ImportError('no torch here')\n")
        environment["PYTHONPATH"] = f"{PEERS}:{self.directory}"
        arguments = ["--swarr", self.swarr, "--output-dir", self.directory / "out", "--rows", self.ROW, "--parts", "", *more]
        return Run("sitting", arguments, {"FAKE_CALLS": str(self.directory / "calls"), **environment})

    def rounds(self):
        return len(json.loads((self.directory / "out" / "sitting.json").read_text())["swarr"][self.ROW])

    def test_each_round_measures_the_row(self):
        run = self.run_rounds("--rounds", 3)
        self.assertEqual((run.status, self.rounds()), (0, 3), run.err)
        self.assertRegex(run.out, rf"\| {self.ROW} +\| 1 ms +\| - +\| 1 +\| 450 +\| 300 +\| yes")
        self.assertIn("error: torch, check: not ready: ImportError: no torch here", run.out)

    def test_a_row_that_is_not_there_is_refused(self):
        run = self.run_rounds("--rows", f"{self.ROW},B17")
        self.assertEqual(run.status, 2)
        self.assertIn("none has 'B17' in its name", run.err)
        self.assertIn(f"{self.ROW}; A decode", run.err)
        self.assertFalse((self.directory / "out").exists())

    def test_signals_end_it_with_a_report(self):
        for names in ("SIGTERM", "SIGTERM SIGINT SIGTERM", "SIGINT"):
            with self.subTest(names):
                self.setUp()
                run = self.run_rounds(FAKE_SIGNALS=f"3 {names}")
                self.assertEqual(self.rounds(), 2, run.err)
                self.assertIn("rounds of a row: [2];", run.out)
                self.assertRegex(run.out, rf"\| {self.ROW} +\| 1 ms")
                if len(names.split()) == 1:
                    self.assertEqual((run.status, run.err), (0, ""))


if __name__ == "__main__":
    unittest.main()
