#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the event files of a run with TensorBoard's own reader, and compares them with its metrics.jsonl.

    pip install tensorboard
    build/swarr sft ... --report-to tensorboard --output-dir out/sft
    python3 tools/check_tensorboard.py out/sft

Every number of every row must be there, at its step and as the nearest float32, and nothing else.
"""

import json
import pathlib
import struct
import sys


def expected(run):
    """{tag: {step: value}} as metrics.jsonl has it."""
    tags = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                tag = name if name.startswith("eval/") else "train/" + name
                tags.setdefault(tag, {})[row["step"]] = struct.unpack("f", struct.pack("f", value))[0]
    return tags


def read(run):
    """The same as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = pathlib.Path(sys.argv[1])
    want, got = expected(run), read(run)
    for tag in sorted(want.keys() | got.keys()):
        if want.get(tag) != got.get(tag):
            sys.exit(f"{tag}: metrics.jsonl has {want.get(tag)}, TensorBoard reads {got.get(tag)}")
    print(f"{len(got)} scalars of {max(map(len, got.values()))} steps, all as metrics.jsonl has them")


if __name__ == "__main__":
    main()
