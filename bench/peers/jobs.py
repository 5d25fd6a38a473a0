# SPDX-License-Identifier: Apache-2.0
"""What the peers of sitting.py share: how work on the GPU is timed, and how a peer measures what it is asked for."""
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass

import torch

MIN_REPETITIONS, MAX_REPETITIONS = 3, 60
MS_BETWEEN_WAITS = 10  # an op is called for about this long between two waits, as by swarr bench
MEMORY_PATIENCE = (10, 20, 40)  # seconds to wait for memory that other peers hold while they compile


@dataclass
class Job:
    """Work that is ready to be run again and again: compiled, with all that it needs in memory."""

    run: object  # puts all its work into the stream
    unit: str  # tokens_per_second, or gflops: 10^9 a second
    count: float  # how many of them a run does
    steps: int = 1  # training steps of a run


def milliseconds(run, calls=1):
    """The mean of a call."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / calls


def measured(job, seconds):
    milliseconds(job.run)  # takes memory anew, and lets the clock settle
    once = milliseconds(job.run)
    scale = 1e-6 if job.unit == "gflops" else 1e3
    result, calls = {}, 1
    if job.unit == "gflops":  # launches don't show between others; alone they do
        calls = max(1, int(MS_BETWEEN_WAITS / once))
        result["gflops_alone"] = job.count / statistics.median(milliseconds(job.run) for _ in range(8)) * scale
    count = int(1e3 * seconds / (calls * once))
    times = [milliseconds(job.run, calls) for _ in range(max(MIN_REPETITIONS, min(MAX_REPETITIONS, count)))]
    ms = statistics.median(times)
    result.update({"ms": ms / job.steps, "repetitions": len(times), job.unit: job.count / ms * scale})
    return {**result, "memory_bytes": torch.cuda.max_memory_allocated()}


def prepared(prepare):
    """What `prepare` returns, a job compiled."""
    for patience in (*MEMORY_PATIENCE, None):
        try:
            job = prepare()
            if isinstance(job, Job):
                milliseconds(job.run)
            return job
        except RuntimeError as error:  # cuBLAS has no error of its own for want of memory
            short = isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)
            if not short or patience is None:
                raise
        torch.cuda.empty_cache()
        time.sleep(patience)


def serve(rows, seconds, details):
    """Prepares the rows, (name, variant, what returns its Job or facts to report), and says so in a line of JSON: the
    details, what was found on the way, and what failed. Then answers each line of standard input, a row's name, with a
    line: a list of {"variant", "dtype", "ms", ...} or {"variant", "error"}.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    ready = {**details, "torch": torch.__version__, "device": torch.cuda.get_device_name(), "errors": [], "found": {}}
    jobs = []
    for name, variant, prepare in rows:
        try:
            job = prepared(prepare)
            if isinstance(job, Job):
                jobs.append((name, variant, job))
            else:
                ready["found"][name] = job
        except Exception as error:  # one row's failure is a result of this row only
            ready["errors"].append(f"{name}, {variant}: {type(error).__name__}: {error}"[:300])
        torch.cuda.empty_cache()
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        results = []
        for name, variant, job in jobs:
            if name != line.strip():
                continue
            torch.cuda.reset_peak_memory_stats()
            results.append({"variant": variant, "dtype": "bf16"})
            try:
                results[-1].update(measured(job, seconds))
            except Exception as error:
                results[-1]["error"] = f"{type(error).__name__}: {error}"[:300]
        torch.cuda.empty_cache()  # the other side has the device to itself
        print(json.dumps(results), file=answers)
