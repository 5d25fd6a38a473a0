# SPDX-License-Identifier: Apache-2.0
"""What sitting.py measures on a GPU, and the bars that it holds swarr to."""
import itertools
from dataclasses import dataclass


@dataclass
class Row:
    name: str  # as swarr bench names it
    bars: tuple  # required, and aimed at: ratios to the peer, or swarr's own rate or milliseconds
    peer: str = "torch"
    kind: str = "ratio"  # what the bars are: ratio, rate, ms (at most)

    @property
    def suite(self):
        return "ops" if self.name.startswith("attention") else "decode" if " decode " in self.name else "train"

    @property
    def unit(self):
        return "gflops" if self.suite == "ops" else "ms" if self.kind == "ms" else "tokens_per_second"

    def text(self, figure):
        if not figure:
            return "-"
        return {"gflops": f"{figure / 1e3:.0f} TF/s", "ms": f"{figure:.0f} ms"}.get(self.unit, f"{figure:,.0f}")


D64, D128, GROUPED = " B8 T8192 H16/16 D64 W512", " B8 T8192 H16/16 D128 W512", " B2 T8192 H64/8 D64 W1024"
TRAIN_A, DECODE_A = "A train B4 T8192 W512", "A decode B64 sampled full"
BATCHES = [
    [
        Row(TRAIN_A, (1.05, 1.3)),
        Row("A train B16 T2048 full", (1.0, 1.2)),
        Row("B train B2 T8192 W512", (1.0, 1.2)),
        Row("C train B64 T2048 W512", (1.05, 1.35)),
        Row("A rl B384 T100 W128", (450, 300), peer="", kind="ms"),
    ],
    [
        Row(DECODE_A, (1.5, 2.5)),
        Row("A decode B256 sampled full", (1.6, 2.4)),
        Row("B decode B256 sampled full", (1.25, 1.6)),
        Row("C decode B256 sampled full", (1.4, 2.0)),
        Row("A decode B1 sampled full", (1200, 2000), kind="rate"),
    ],
    [
        Row("attention" + D64, (1.4, 1.9)),
        Row("attention backward" + D64, (1.0, 1.5)),
        Row("attention" + D128, (1.3, 1.6)),
        Row("attention backward" + D128, (1.0, 1.4)),
        Row("attention" + GROUPED, (0.9, 1.1), peer="cudnn"),
        Row("attention backward" + GROUPED, (0.8, 1.0), peer="cudnn"),
    ],
]
ROWS = list(itertools.chain(*BATCHES))
PRODUCT_BARS, LEAST_PRODUCT_BARS = (0.9, 1.0), (0.75, 1.0)
MEMORY_BARS, STUDY_BARS = (0.7, 0.5), (20, 12)
