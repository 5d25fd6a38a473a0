# SPDX-License-Identifier: Apache-2.0
"""Which processors are chosen, and which conditions count as quiet: by looks that the tests make up."""
import os
import pathlib
import subprocess
import sys
import threading
import unittest
from unittest import mock

import stand_ins  # the path to the scripts
import disturbance
from disturbance import Conditions, Watch

QUICK, SLOW = 1.0, 2.0


class MadeUpLooks(unittest.TestCase):
    """Four processors, of two cores: 0 and 1, 2 and 3."""

    def setUp(self):
        self.looks = dict.fromkeys(range(4), QUICK)  # what a look takes, or a list of the next ones
        self.seen = []
        for name, value in (
            ("look_at", self.look_at),
            ("core_of", lambda processor: f"core {processor // 2}"),
            ("PATIENCE", 0),
        ):
            patch = mock.patch.object(disturbance, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def look_at(self, processor):
        self.seen.append(processor)
        look = self.looks[processor]
        look = look.pop(0) if isinstance(look, list) else look
        return look() if callable(look) else look

    def watch(self, threads=2, allowed=range(4)):
        with mock.patch("os.sched_getaffinity", return_value=set(allowed)):  # whatever this machine has
            made = Watch(threads)
        self.addCleanup(made.lookers.shutdown)
        return made

    def test_each_chosen_processor_has_a_core_of_its_own(self):
        self.assertEqual(list(self.watch().choose()), [0, 2])

    def test_one_with_a_neighbour_is_left_to_the_other_of_its_core(self):
        self.looks[0] = SLOW
        self.assertEqual(list(self.watch().choose()), [1, 2])

    def test_where_all_of_a_core_are_slow_the_quickest_of_the_rest_comes(self):
        self.looks.update({2: 3.0, 3: SLOW})
        self.assertEqual(list(self.watch().choose()), [0, 3])

    def test_those_that_were_quick_lately_come_first(self):
        watch = self.watch(threads=1)
        self.looks[0] = SLOW
        self.assertEqual(list(watch.choose()), [1])
        self.looks.update({0: QUICK, 1: 1.2})  # both quick now; 0 was not
        self.assertEqual(list(watch.choose()), [2])

    def test_all_are_taken_where_there_are_not_more_or_cores_do_not_suffice(self):
        self.assertEqual(list(self.watch(allowed=(0, 1)).choose()), [0, 1])
        self.assertEqual(list(self.watch(threads=3).choose()), [0, 1, 2, 3])
        self.assertEqual(list(self.watch(allowed=(3,)).choose()), [3])

    def test_the_chosen_are_looked_at_together_and_that_look_tells(self):
        self.looks[0] = [QUICK, 1.7]  # quick alone, slow beside 2
        both = threading.Barrier(2, timeout=10)
        self.looks[2] = [QUICK, lambda: both.wait() * 0 + QUICK]
        self.looks[0][1] = lambda: both.wait() * 0 + 1.7
        chosen = self.watch().choose()
        self.assertEqual(chosen, {0: 1.7, 2: QUICK})
        self.assertEqual(sorted(self.seen[4:]), [0, 2])

    def test_with_patience_it_looks_until_they_are_quick(self):
        self.looks[0] = [QUICK, 1.7, QUICK, 1.7, QUICK, QUICK]
        with mock.patch.object(disturbance, "PATIENCE", 1e9):
            chosen = self.watch(allowed=(0, 2)).choose()
        self.assertEqual(chosen, {0: QUICK, 2: QUICK})
        self.assertEqual(self.looks[0], [])

    def test_quiet_is_by_looks_before_and_after_near_the_quickest_of_the_whole_run(self):
        watch = self.watch()
        watch.look([0], at_once=False)
        bound = disturbance.MOST_SLOWER * QUICK

        def is_quiet(before, after):
            return watch.is_quiet(Conditions({0: before, 1: QUICK}, {0: QUICK, 1: after}, 1.0, 0.0))

        self.assertTrue(is_quiet(bound, bound))
        self.assertFalse(is_quiet(bound + 1e-6, QUICK))
        self.assertFalse(is_quiet(QUICK, bound + 1e-6))
        self.looks[2] = 0.9 * QUICK  # a later look of any processor
        watch.look([3, 2], at_once=False)
        self.assertFalse(is_quiet(bound, QUICK))

    def test_quiet_is_with_others_at_most_at_a_part_of_a_processor(self):
        watch = self.watch()
        watch.look([0], at_once=False)
        unknown = disturbance.TICKS / os.sysconf("SC_CLK_TCK")

        def is_quiet(seconds, others):
            return watch.is_quiet(Conditions({0: QUICK}, {0: QUICK}, seconds, others))

        self.assertTrue(is_quiet(1.0, 0.99 * (disturbance.MOST_OTHERS + unknown)))
        self.assertFalse(is_quiet(1.0, 1.01 * (disturbance.MOST_OTHERS + unknown)))
        self.assertTrue(is_quiet(2.0, 1.99 * disturbance.MOST_OTHERS))
        self.assertTrue(is_quiet(0.05, unknown))  # so short a part only the looks can tell

    def during(self, watch, measure):
        """Of this process; its own threads are awake, so nobody waits for their sleep."""
        with mock.patch.object(disturbance, "REST", 0):
            return watch.during(os.getpid(), measure)

    def test_a_measurement_is_bound_to_what_was_chosen_and_freed_after(self):
        allowed = os.sched_getaffinity(0)
        self.looks = dict.fromkeys(allowed, [])
        for processor in allowed:
            self.looks[processor] = QUICK
        watch = self.watch(allowed=allowed)
        bound, conditions = self.during(watch, lambda: os.sched_getaffinity(0))
        self.assertEqual(len(bound), 1)
        self.assertLessEqual(bound, set(conditions.before))
        self.assertEqual(conditions.before.keys(), conditions.after.keys())
        self.assertEqual(os.sched_getaffinity(0), allowed)

    def test_a_measurement_that_fails_leaves_nothing_bound(self):
        allowed = os.sched_getaffinity(0)
        self.looks = dict.fromkeys(allowed, QUICK)
        with self.assertRaises(ZeroDivisionError):
            self.during(self.watch(allowed=allowed), lambda: 1 / 0)
        self.assertEqual(os.sched_getaffinity(0), allowed)

    def test_what_others_compute_meanwhile_is_no_work_of_the_process(self):
        self.looks = dict.fromkeys(os.sched_getaffinity(0), QUICK)
        watch = self.watch(allowed=self.looks)
        # The system's count and the process's, before and after.
        with mock.patch.object(disturbance, "busy_seconds", side_effect=[10.0, 12.0]), mock.patch.object(
            disturbance, "own_seconds", side_effect=lambda process, own=iter([1.0, 2.25]): next(own)
        ), mock.patch.object(disturbance, "bind"):
            _, conditions = self.during(watch, lambda: None)
        self.assertAlmostEqual(conditions.others, 0.75)


class TheSystem(unittest.TestCase):
    def test_the_threads_of_a_program_are_bound_to_one_processor_each_and_freed(self):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            self.skipTest("one processor")
        waits = "import sys, threading as t; t.Thread(target=sys.stdin.read).start(); print(1, flush=True)"
        command = [sys.executable, "-c", waits]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            program.stdout.readline()
            process = pathlib.Path(f"/proc/{program.pid}")

            def affinities():
                return sorted(sorted(os.sched_getaffinity(int(t.name))) for t in disturbance.threads_of(process))

            disturbance.bind(process, allowed[:2])
            self.assertEqual(affinities(), [[allowed[0]], [allowed[1]]])
            disturbance.bind(process, allowed[:1])  # who finds no processor left may use them all
            self.assertEqual(affinities(), [[allowed[0]], [allowed[0]]])
            disturbance.free(process, allowed)
            self.assertEqual(affinities(), [allowed, allowed])
            program.stdin.close()

    def test_a_process_that_has_ended_is_neither_bound_nor_awaited(self):
        gone = pathlib.Path("/proc/0")
        disturbance.bind(gone, [0])
        disturbance.free(gone, {0})
        disturbance.await_sleep(gone)
        self.assertFalse(disturbance.is_running(gone))

    def test_what_a_process_computes_is_counted_in_seconds(self):
        own = pathlib.Path("/proc/self")
        before, end = disturbance.own_seconds(own), sum(os.times()[:2]) + 0.1
        while sum(os.times()[:2]) < end:
            disturbance.hash_seconds()
        unknown = disturbance.TICKS / os.sysconf("SC_CLK_TCK")
        self.assertAlmostEqual(disturbance.own_seconds(own) - before, 0.1, delta=unknown)

    def test_a_processor_is_busy_with_all_but_idling_and_waiting(self):
        user, nice, system, idle, iowait, irq, softirq, steal, guest = 1, 2, 4, 1000, 2000, 8, 16, 32, 4000
        ticks = f"{user} {nice} {system} {idle} {iowait} {irq} {softirq} {steal} {guest} 0"
        stat = f"cpu {ticks}\ncpu0 {ticks}\ncpu1 {ticks}\ncpu10 {ticks}\nintr 5\n"
        with mock.patch.object(pathlib.Path, "read_text", return_value=stat):
            self.assertEqual(disturbance.busy_seconds({0, 10}), 2 * 63 / os.sysconf("SC_CLK_TCK"))


if __name__ == "__main__":
    unittest.main()
