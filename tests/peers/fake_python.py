# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an interpreter that runs torch_cpu.py: 100 tokens/s in plain operations and 10 fused.

FAKE_TORCH_STARTS: a file for its process's number; it then sends SIGTERM to who started it and is never ready.
"""
import json
import os
import pathlib
import signal
import sys
import time

SPEEDS = {"plain": 100.0, "fused": 10.0}
DETAILS = {"torch": "2.0+cpu", "python": "3", "threads": 2, "variants": list(SPEEDS), "product_gflops": 150.0}


def answer(verb, name, dtype, variant):
    found = {"bit_equal_logprobs": 1.0}
    return {"check": found, "prepare": {}, "measure": {"tokens_per_second": SPEEDS[variant]}}[verb]


if started := os.environ.get("FAKE_TORCH_STARTS"):
    pathlib.Path(started).write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
print(json.dumps(DETAILS), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
