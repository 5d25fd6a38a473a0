#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `make bench-peers`: the rows of `swarr bench`, computed by plain PyTorch (torch_model.py), each
when it is asked for (sides.py).

Runs with torch 1.13 (Debian: python3-torch libopenblas0-openmp; without the latter its matrix products are a hundred
times slower) and with torch 2.x.

  C|D train B T full|W64    forward, backward and AdamW; f32, or bf16 by autocast over f32 weights
  C|D decode B sampled full a batch with a cache of keys and values, 128 new tokens after a prompt of 32 that is not
                            timed: Gumbel-max sampling and the token's log-probability; weights in f32 or bf16

It writes a line of JSON when it is ready, and answers each line that it reads, [verb, name, dtype, variant], with one:

  prepare  a row, which is kept until a row of another name is prepared: {}
  measure  a prepared row for some time, one run at least: ms (the median over `repetitions`) and tokens_per_second
  check    of a shape, "C" or "D", that the above computes what it claims, and the share of the decoder's
           log-probabilities that equal the forward pass's bit for bit

or with {"error"}. OMP_NUM_THREADS should be the number of threads: the BLAS reads it as it is loaded.
"""
import argparse
import contextlib
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch_model import (
    DTYPES,
    SHAPES,
    VARIANTS,
    WINDOW,
    Decoder,
    chunked_window,
    forward,
    frozen_weights,
    full_attention,
    init_weights,
    masked_window,
    rope_tables,
)

PROMPT, NEW = 32, 128
MAX_REPETITIONS = 10_000  # as swarr bench has them on request


def measured(run, seconds, tokens):
    """Runs for about so long, once at least."""
    times = []
    while not times or (len(times) < MAX_REPETITIONS and sum(times) + times[-1] <= seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return {"ms": 1e3 * median, "repetitions": len(times), "tokens_per_second": tokens / median}


def make_optimizer(parameters):
    """The fastest AdamW that this version has for the processor."""
    for implementation in ("fused", "foreach", None):
        try:
            chosen = {implementation: True} if implementation else {}
            optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, **chosen)
            for p in parameters:
                p.grad = torch.zeros_like(p)
            optimizer.step()  # an implementation may turn out to be missing only here
            return optimizer
        except (RuntimeError, TypeError):
            continue
    raise RuntimeError("no AdamW works")


# Of a row: what runs it once, warmed up, and how many tokens that is.
def train(shape, B, T, window, dtype, variant):
    attention = chunked_window(variant, T, shape["heads"]) if window else full_attention(variant, T)
    weights = init_weights(shape)
    optimizer = make_optimizer(list(weights.values()))
    tables = rope_tables(shape, T)
    ids, targets = (torch.randint(0, shape["vocab"], (B, T)) for _ in range(2))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext():
            logits = forward(shape, weights, ids, tables, attention)
        F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()).backward()
        optimizer.step()

    step()
    return step, B * T


def sample_tokens(decoder, logits, count):
    for _ in range(count):
        uniform = torch.rand_like(logits).clamp_min_(1e-20)
        tokens = (logits - torch.log(-torch.log(uniform))).argmax(-1)
        torch.log_softmax(logits, -1).gather(-1, tokens[:, None])  # a rollout records it
        logits = decoder.step(tokens)


@torch.inference_mode()  # up to a quarter faster than no_grad, and as simple
def decode(shape, B, dtype, variant):
    decoder = Decoder(shape, frozen_weights(shape, DTYPES[dtype]), B, PROMPT + NEW, variant)
    prompt = torch.randint(0, shape["vocab"], (B, PROMPT))
    for t in range(PROMPT):
        after_prompt = decoder.step(prompt[:, t])

    @torch.inference_mode()
    def run():
        decoder.position = PROMPT
        sample_tokens(decoder, after_prompt, NEW)

    run()
    return run, B * NEW


def prepare(name, dtype, variant):
    """Of a name as "C train B16 T256 W64" or "C decode B16 sampled full"."""
    shape, kind, batch, *more = name.split()
    B = int(batch[1:])
    if kind == "decode":
        return decode(SHAPES[shape], B, dtype, variant)
    length, window = more
    return train(SHAPES[shape], B, int(length[1:]), window != "full", dtype, variant)


def product_gflops():
    """Of one large product in f32: tells a BLAS that is no peer."""
    M, N, K = 4096, 2048, 384
    x, w = torch.randn(M, K), torch.randn(N, K)
    F.linear(x, w)
    return 2e-6 * M * N * K / measured(lambda: F.linear(x, w), 0.2, M)["ms"]


@torch.inference_mode()
def check(shape, dtype, variant):
    """Differences are in logits. Only f32's are small enough to be held against a bound."""
    B, T, steps = 3, 4 * WINDOW, 32  # few steps: PyTorch compiles a product for every length of the cache
    weights, tables = frozen_weights(shape, DTYPES[dtype]), rope_tables(shape, T, DTYPES[dtype])
    ids = torch.randint(0, shape["vocab"], (B, T))

    def logits_of(attention):
        return forward(shape, weights, ids, tables, attention).float()

    def logprobs_of(logits):
        return torch.log_softmax(logits, -1).gather(-1, ids[:, :steps, None])

    decoder = Decoder(shape, weights, B, T, variant)
    decoded = torch.stack([decoder.step(ids[:, t]) for t in range(steps)], 1)
    full, plain_full = (logits_of(full_attention(v, T)) for v in (variant, "plain"))
    window, masked = logits_of(chunked_window(variant, T, shape["heads"])), logits_of(masked_window(T))
    pairs = {"decode": (decoded, plain_full[:, :steps]), "full": (full, plain_full), "window": (window, masked)}
    differences = {f"{name}_difference": (a - b).abs().max().item() for name, (a, b) in pairs.items()}
    if dtype == "f32" and not all(d < 1e-4 for d in differences.values()):
        raise AssertionError(f"the check fails: {differences}")
    equal = logprobs_of(decoded) == logprobs_of(full[:, :steps])
    return {**differences, "bit_equal_logprobs": equal.float().mean().item()}


class Rows:
    """The verbs. Keeps what is prepared."""

    def __init__(self, turn_seconds):
        self.turn_seconds = turn_seconds
        self.prepared = {}  # by name, dtype and variant

    def prepare(self, name, *way):
        self.prepared = {key: row for key, row in self.prepared.items() if key[0] == name}
        self.prepared[(name, *way)] = prepare(name, *way)
        return {}

    def measure(self, *key):
        run, tokens = self.prepared[key]
        return measured(run, self.turn_seconds, tokens)

    def check(self, shape, *way):
        return check(SHAPES[shape], *way)

    def answer(self, verb, *key):
        try:
            return {"prepare": self.prepare, "measure": self.measure, "check": self.check}[verb](*key)
        except Exception as error:  # one row's failure is a result of this row only
            return {"error": f"{type(error).__name__}: {error}"}


def main():
    parser = argparse.ArgumentParser(description="Measures PyTorch at the rows of swarr bench, on request.")
    parser.add_argument("--turn-seconds", type=float, required=True, help="how long a measurement is repeated")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    details = {"torch": torch.__version__, "python": sys.version.split()[0], "threads": torch.get_num_threads()}
    print(json.dumps({**details, "variants": VARIANTS, "product_gflops": product_gflops()}), file=answers)
    rows = Rows(args.turn_seconds)
    for line in sys.stdin:
        print(json.dumps(rows.answer(*json.loads(line))), file=answers)


main()
