# SPDX-License-Identifier: Apache-2.0
"""Which rows --rows means, and programs that are run once or asked again and again."""
import contextlib
import json
import os
import pathlib
import signal
import tempfile
import unittest

from stand_ins import ROOT
from common import SIGNALS, SideError, end_by_signals, is_among, run_json, text_table
from servers import Server

LIMIT = 30


class Rows(unittest.TestCase):
    def test_a_text_means_the_rows_that_swarr_bench_means_by_it(self):
        for case in json.loads((ROOT / "tests" / "data" / "bench_rows.json").read_text()):
            with self.subTest(**case):
                self.assertEqual(is_among(case["name"], case["rows"]), case["wanted"])

    def test_a_table_has_columns(self):
        self.assertEqual(text_table([["a", "bb"], ["ccc", ""]]), "| a   | bb |\n| --- | -- |\n| ccc |    |")


class Signals(unittest.TestCase):
    def test_the_first_raises_and_later_ones_do_nothing(self):
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in handlers.items():
            self.addCleanup(signal.signal, number, handler)
        for first in SIGNALS:
            end_by_signals()
            with self.assertRaises(KeyboardInterrupt):
                os.kill(os.getpid(), first)
            for number in SIGNALS:
                os.kill(os.getpid(), number)


class Programs(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.log = pathlib.Path(directory.name) / "log"

    def run_json(self, shell):
        return run_json(["sh", "-c", shell, "sh"], LIMIT)  # $2 is the file

    def test_what_a_program_writes_as_json_is_returned(self):
        self.assertEqual(self.run_json("echo '{\"rows\": 1}' > \"$2\""), {"rows": 1})

    def test_a_program_that_fails_is_quoted_with_its_last_line(self):
        for shell, said in (
            ("echo first >&2; echo last >&2; exit 2", "last"),
            ("exit 3", "exit status 3"),
            ("true", "exit status 0"),  # it wrote nothing
        ):
            with self.subTest(shell), self.assertRaises(SideError) as raised:
                self.run_json(shell)
            self.assertEqual(str(raised.exception), said)
        with self.assertRaises(SideError):
            run_json(["/no/such/program"], LIMIT)
        with self.assertRaises(SideError):
            run_json(["sleep", "30", ";"], 0.01)

    def server(self, shell):
        made = Server(["sh", "-c", shell], self.log)
        self.addCleanup(self.close, made)
        return made

    def close(self, server):
        server.end()
        server.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # of a request that was never read
            server.process.stdin.close()

    def test_a_server_says_that_it_is_ready_and_answers_each_line(self):
        server = self.server("echo '{}'; while read -r line; do echo \"[$line]\"; done")
        self.assertEqual(server.answer(LIMIT), {})
        self.assertEqual(server.ask("1", LIMIT), [1])
        self.assertEqual(server.ask("2", LIMIT), [2])
        self.assertGreater(server.pid, 1)

    def test_a_server_that_ends_says_why(self):
        for shell, said in (
            ("echo first >&2; echo why >&2; exit 1", "why"),
            ("exit 3", "ended with status 3"),
            ("echo why >&2; kill -9 $$", "ended by SIGKILL"),
            ("echo no json", "it says no JSON: no json"),
        ):
            with self.subTest(shell), self.assertRaises(SideError) as raised:
                self.server(shell).answer(LIMIT)
            self.assertEqual(str(raised.exception), said)

    def test_a_server_without_an_answer_is_ended(self):
        server = self.server("exec sleep 30")
        with self.assertRaises(SideError) as raised:
            server.answer(0.01)
        self.assertEqual(str(raised.exception), "no answer within 0 s")
        for use in (lambda: server.pid, lambda: server.ask("", LIMIT)):
            with self.assertRaises(SideError) as raised:
                use()
            self.assertEqual(str(raised.exception), "its process has ended")


if __name__ == "__main__":
    unittest.main()
