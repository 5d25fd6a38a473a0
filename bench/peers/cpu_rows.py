# SPDX-License-Identifier: Apache-2.0
"""What compare.py measures on the processor, and the bars that it holds swarr to: those of two cores with AVX-512 and AMX
beside PyTorch 2.15."""
from dataclasses import dataclass


@dataclass
class Row:
    name: str  # as swarr bench names it
    at_least: dict  # the ratios required, by "f32" and "bf16" or "best" (dtype)

    @property
    def suite(self):
        return self.name.split()[1]


@dataclass
class Share:
    """Ops of swarr in f32 beside the machine's peak: the smallest share counts."""

    name: str
    rows: str  # of the suite ops, between commas
    at_least: float


# What takes long comes last, in case that time is short.
ROWS = [
    Row("D train B16 T256 full", {"f32": 1.6, "bf16": 2.4}),
    Row("D decode B1 sampled full", {"best": 10.0}),
    Row("D decode B64 sampled full", {"best": 4.0}),
    Row("C decode B1 sampled full", {"best": 4.0}),
    Row("C train B16 T256 full", {"f32": 1.25, "bf16": 1.5}),
    Row("C train B4 T1024 W64", {"f32": 1.25, "bf16": 1.5}),
    Row("C decode B64 sampled full", {"best": 2.5}),
]


def products(end):
    return ",".join(f"C gemm {layer} {end}" for layer in ("qkv", "o", "gate-up", "down"))


SHARES = [
    Share("products, M = 4096", products("M4096"), 0.75),
    Share("products, M = 64", products("M64 packed"), 0.70),
    Share("products, M = 16", products("M16 packed"), 0.60),
    Share("attention T1024 full", "C attention T1024 full,C attention backward T1024 full", 0.50),
    Share("attention T1024 W128", "C attention T1024 W128,C attention backward T1024 W128", 0.35),
]
