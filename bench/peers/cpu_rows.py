# SPDX-License-Identifier: Apache-2.0
"""What compare.py measures on the processor, and the bars that it holds swarr to: those of two cores with AVX-512 and
AMX beside PyTorch 2.15."""
from dataclasses import dataclass

DTYPES = ("f32", "bf16")


@dataclass
class Row:
    name: str  # as swarr bench names it
    at_least: dict  # the ratios required, by "f32" and "bf16" or "best" (dtype)
    weight: float  # its part of the run's time

    @property
    def suite(self):
        return self.name.split()[1]


@dataclass
class Share:
    """Ops of swarr in f32 beside the machine's peak: the smallest share counts."""

    name: str
    ops: list  # rows of the suite ops
    at_least: float
    weight: float


# Weights follow how long a turn takes on two such cores. Rows whose turns are short come first: what they leave of
# their time is the others'.
ROWS = [
    Row("D decode B1 sampled full", {"best": 10.0}, 8),
    Row("D decode B64 sampled full", {"best": 4.0}, 12),
    Row("C decode B1 sampled full", {"best": 4.0}, 12),
    Row("D train B16 T256 full", {"f32": 1.6, "bf16": 2.4}, 18),
    Row("C decode B64 sampled full", {"best": 2.5}, 36),
    Row("C train B16 T256 full", {"f32": 1.25, "bf16": 1.5}, 42),
    Row("C train B4 T1024 W64", {"f32": 1.25, "bf16": 1.5}, 42),
]


def products(end):
    return [f"C gemm {layer} {end}" for layer in ("qkv", "o", "gate-up", "down")]


def attention(window):
    return [f"C attention{direction} T1024 {window}" for direction in ("", " backward")]


SHARES = [
    Share("products, M = 4096", products("M4096"), 0.75, 6),
    Share("products, M = 64", products("M64 packed"), 0.70, 3),
    Share("products, M = 16", products("M16 packed"), 0.60, 3),
    Share("attention T1024 full", attention("full"), 0.50, 2),
    Share("attention T1024 W128", attention("W128"), 0.35, 2),
]
