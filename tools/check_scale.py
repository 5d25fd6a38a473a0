#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a run of the paper's size takes, by the formulas of docs/scale.md, and whether that page says so. Needs Python 3.9.

    python3 tools/check_scale.py           prints what the page says otherwise and exits 1, or prints nothing
    python3 tools/check_scale.py --fix     writes the table into the page
"""
import sys
from dataclasses import dataclass

from check_docs import ROOT

PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- computed by tools/check_scale.py -->\n", "<!-- end -->\n"


@dataclass
class Model:
    name: str
    L: int
    C: int
    GD: int
    F: int
    P: float


MODELS = [Model("1.5B", 28, 1536, 256, 8960, 1.54e9), Model("7B", 28, 3584, 512, 18944, 7.62e9)]
RANKS = (8, 16, 64)
S, T, W, M = 512, 16_384, 4096, 32_768  # completions a step, their tokens, the window, tokens of a micro-batch
MEMORY = 4.3e12  # bytes/s, a copy on an H200 (docs/cuda.md)
RATE = 6 * 596e6 * 106_687  # floating-point operations/s: 6 P a token at the measured speed of shape B (docs/cuda.md)
NVLINK, NETWORK = 240e9, 50e9  # bytes/s that a device sends: measured between two H200; assumed


def row(m, n):
    """The cells of one run, each by the formula of the same name in the page."""
    weights, moments, received = 10 * m.P, 8 * m.P / n, 4 * m.P * (n - 1) / n
    activations = 2 * M * (m.L * m.C + 4 * m.C + 2 * m.GD + 4 * m.F)
    cache = S / n * 4 * m.GD * W * m.L
    peak = weights + moments + received + max(activations, cache)
    decode = T * (2 * m.P + cache) / MEMORY
    train = S * T / n * 8 * m.P / RATE
    sent = 6 * m.P * (n - 1) / n
    exchange = sent / (NVLINK if n <= 8 else NETWORK)
    gb = [f"{x / 1e9:,.1f}" for x in (weights, moments, received, activations, cache, peak)]
    return [m.name, str(n), *gb, f"{decode:,.0f}", f"{train:,.0f}", f"{sent / 1e9:,.1f}", f"{exchange:.2f}"]


def table():
    head = ["model", "GPUs", "weights", "moments", "received", "activations", "cache", "peak", "decode, s", "train, s", "sent", "exchange, s"]
    rows = [head, ["---"] * len(head)] + [row(m, n) for m in MODELS for n in RANKS]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def main():
    if sys.argv[1:] not in ([], ["--fix"]):
        sys.exit(__doc__)
    before, rest = PAGE.read_text().split(BEGIN)
    written, after = rest.split(END)
    if written == table():
        return 0
    if sys.argv[1:]:
        PAGE.write_text(before + BEGIN + table() + END + after)
        return 0
    print("docs/scale.md: its table is not what tools/check_scale.py computes; run it with --fix")
    return 1


if __name__ == "__main__":
    sys.exit(main())
