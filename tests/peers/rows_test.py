# SPDX-License-Identifier: Apache-2.0
"""Every row that compare.py and sitting.py ask for is one of swarr bench, and one of the peer it is compared with.
SWARR_PROGRAM: the program, build/swarr if that is not set."""
import importlib
import os
import pathlib
import subprocess
import sys
import unittest
from collections import defaultdict
from unittest import mock

from stand_ins import ROOT
import cpu_rows
import gpu_rows
from sides import PEAK_ROW, PRODUCT_ROW

PROGRAM = pathlib.Path(os.environ.get("SWARR_PROGRAM", ROOT / "build" / "swarr"))


NOT_HERE = ["cudnn", "torch", "torch._functorch", "torch._functorch.config", "torch.nn", "torch.nn.functional"]
NOT_HERE += ["torch.nn.attention", "torch.nn.attention.flex_attention"]


class Peers(unittest.TestCase):
    def test_a_peer_prepares_each_row_that_is_compared_with_it(self):
        for peer, script in (("torch", "torch_gpu"), ("cudnn", "cudnn_window")):
            wanted = ["check", *(row.name for row in gpu_rows.ROWS if row.peer == peer)]
            jobs = mock.MagicMock()
            made_up = {"jobs": jobs, **{name: mock.MagicMock(__version__="0") for name in NOT_HERE}}
            arguments = [script, "--rows", ",".join(wanted)]
            with mock.patch.dict(sys.modules, made_up), mock.patch.object(sys, "argv", arguments):
                importlib.import_module(script)
            prepared = {name for name, _, _ in jobs.serve.call_args.args[0]}
            self.assertEqual(set(wanted) - prepared, set(), script)


@unittest.skipUnless(PROGRAM.exists(), f"there is no {PROGRAM}")
class Rows(unittest.TestCase):
    def check_all_exist(self, device, by_suite):
        """Where no row is meant, the program lists all. It fails otherwise where there is no such device."""
        for suite, wanted in by_suite.items():
            command = [PROGRAM, "bench", "--device", device, "--suite", suite, "--rows", "no such row"]
            done = subprocess.run(command, capture_output=True, text=True)
            if device == "cuda" and "no row of the suite" not in done.stderr:
                self.skipTest(done.stderr.strip())
            rows = {line.strip() for line in done.stdout.splitlines() if line.startswith("  ")}
            self.assertEqual(set(wanted) - rows, set(), f"no rows of the suite {suite}: {done.stderr}")

    def test_those_of_the_processor(self):
        by_suite = defaultdict(list)
        for row in cpu_rows.ROWS:
            by_suite[row.suite].append(row.name)
        by_suite["ops"] = [PEAK_ROW, PRODUCT_ROW, *(op for share in cpu_rows.SHARES for op in share.ops)]
        self.check_all_exist("cpu", by_suite)

    def test_those_of_a_device(self):
        by_suite = defaultdict(list)
        for row in gpu_rows.ROWS:
            by_suite[row.suite].append(row.name)
        self.check_all_exist("cuda", by_suite)

    def test_each_row_is_of_a_suite_and_counts_once(self):
        names = [row.name for row in (*cpu_rows.ROWS, *cpu_rows.SHARES)]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual({row.suite for row in cpu_rows.ROWS}, {"train", "decode"})
        self.assertEqual([row.suite for batch in gpu_rows.BATCHES for row in batch[:1]], ["train", "decode", "ops"])
        for batch in gpu_rows.BATCHES:  # rows of a batch are measured by one command
            self.assertEqual(len({row.suite for row in batch}), 1)


if __name__ == "__main__":
    unittest.main()
