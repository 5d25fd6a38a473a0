#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of `make bench-peers`: the rows of `swarr bench`, computed by plain PyTorch.

Runs with torch 1.13 (Debian: python3-torch libopenblas0-openmp; without the latter its matrix products are a hundred
times slower) and with torch 2.x, where each row has a second variant: "plain" attention is written out in tensor
operations, "sdpa" uses scaled_dot_product_attention.

  C|D train B T full|W64    forward, backward and AdamW; f32, or bf16 by autocast over f32 weights
  C|D decode B sampled full a batch with a cache of keys and values, 128 new tokens after a prompt of 32 that is not
                            timed: Gumbel-max sampling and the token's log-probability; weights in f32 or bf16
  C|D check                 that the above computes what it claims, and the share of the decoder's log-probabilities
                            that equal the forward pass's bit for bit

A row has its name, variant and dtype, and ms (the median over `repetitions`, after one run that is thrown away) and
tokens_per_second, or `error`.
"""
import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import sys
import time
from functools import partial


def parse_arguments():
    parser = argparse.ArgumentParser(description="Speed of PyTorch at the rows of swarr bench.")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--row-seconds", type=float, default=1.0, help="how long a measurement is repeated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


args = parse_arguments()
os.environ["OMP_NUM_THREADS"] = str(args.threads)  # the BLAS reads it as it is loaded, so before torch
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(args.threads)
torch.set_flush_denormal(True)
torch.manual_seed(0)

VARIANTS = ["plain"] + (["sdpa"] if hasattr(F, "scaled_dot_product_attention") else [])
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {
    "C": dict(layers=6, hidden=384, heads=6, ffn=1024, vocab=256),
    "D": dict(layers=4, hidden=128, heads=4, ffn=352, vocab=64),
}
WINDOW = 64
PROMPT, NEW = 32, 128
MIN_REPETITIONS, MAX_REPETITIONS = 3, 60
PATIENCE = 10.0  # a first run that takes longer than this many times the row's seconds is the only one


# ------------------------------------------------------------------------------------------------------------ the model
def head_dim(shape):
    return shape["hidden"] // shape["heads"]


def init_weights(shape):
    generator = torch.Generator().manual_seed(0)
    hidden, ffn = shape["hidden"], shape["ffn"]

    def normal(rows, columns, std=0.02):
        return (torch.randn(rows, columns, generator=generator) * std).requires_grad_(True)

    def ones():
        return torch.ones(hidden, requires_grad=True)

    into_residual = 0.02 / math.sqrt(2 * shape["layers"])
    weights = {"embedding": normal(shape["vocab"], hidden), "norm": ones()}
    for i in range(shape["layers"]):
        weights[f"{i}.attention_norm"] = ones()
        weights[f"{i}.qkv"] = normal(3 * hidden, hidden)
        weights[f"{i}.out"] = normal(hidden, hidden, into_residual)
        weights[f"{i}.ffn_norm"] = ones()
        weights[f"{i}.gate_up"] = normal(2 * ffn, hidden)
        weights[f"{i}.down"] = normal(hidden, ffn, into_residual)
    return weights


def frozen_weights(shape, dtype):
    return {name: w.detach().to(dtype) for name, w in init_weights(shape).items()}


def rope_tables(shape, length, dtype=torch.float32):
    dim = head_dim(shape)
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2).float() / dim)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def rope(x, cos, sin):  # x (B, heads, T, dim); cos, sin (T, dim / 2)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def feed_forward(weights, i, x):
    gate, up = F.linear(rms_norm(x, weights[f"{i}.ffn_norm"]), weights[f"{i}.gate_up"]).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, weights[f"{i}.down"])


def forward(shape, weights, ids, tables, attention):
    B, T = ids.shape
    x = F.embedding(ids, weights["embedding"])
    for i in range(shape["layers"]):
        qkv = F.linear(rms_norm(x, weights[f"{i}.attention_norm"]), weights[f"{i}.qkv"])
        q, k, v = (t.view(B, T, shape["heads"], -1).transpose(1, 2) for t in qkv.chunk(3, -1))
        heads = attention(rope(q, *tables), rope(k, *tables), v)
        x = x + F.linear(heads.transpose(1, 2).reshape(B, T, -1), weights[f"{i}.out"])
        x = feed_forward(weights, i, x)
    return F.linear(rms_norm(x, weights["norm"]), weights["embedding"])


class Decoder:
    """One token per step for each sequence of a batch, all at the same position, over a static cache."""

    def __init__(self, shape, weights, batch, length, variant):
        self.shape, self.weights, self.batch, self.position = shape, weights, batch, 0
        self.attend = ATTEND[variant]
        dtype = weights["embedding"].dtype
        sizes = (batch, shape["heads"], length, head_dim(shape))
        self.keys = [torch.zeros(sizes, dtype=dtype) for _ in range(shape["layers"])]
        self.values = [torch.zeros(sizes, dtype=dtype) for _ in range(shape["layers"])]
        self.cos, self.sin = rope_tables(shape, length, dtype)

    def step(self, tokens):  # (B,) -> logits (B, vocab) in f32
        weights, at = self.weights, self.position
        cos, sin = self.cos[at : at + 1], self.sin[at : at + 1]
        x = F.embedding(tokens, weights["embedding"])
        for i in range(self.shape["layers"]):
            qkv = F.linear(rms_norm(x, weights[f"{i}.attention_norm"]), weights[f"{i}.qkv"])
            q, k, v = (t.view(self.batch, self.shape["heads"], 1, -1) for t in qkv.chunk(3, -1))
            self.keys[i][:, :, at : at + 1] = rope(k, cos, sin)
            self.values[i][:, :, at : at + 1] = v
            heads = self.attend(rope(q, cos, sin), self.keys[i][:, :, : at + 1], self.values[i][:, :, : at + 1])
            x = x + F.linear(heads.reshape(self.batch, -1), weights[f"{i}.out"])
            x = feed_forward(weights, i, x)
        self.position += 1
        return F.linear(rms_norm(x, weights["norm"]), weights["embedding"]).float()


# ------------------------------------------------------------------------------------------------------------ attention
def plain_attend(q, k, v, hidden=None):
    scores = torch.matmul(q, k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return torch.matmul(torch.softmax(scores, -1), v)


def sdpa_attend(q, k, v, hidden=None):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if hidden is None else ~hidden)


ATTEND = {"plain": plain_attend, "sdpa": sdpa_attend}


def full_attention(variant, T):
    if variant == "sdpa":
        return partial(F.scaled_dot_product_attention, is_causal=True)
    return partial(plain_attend, hidden=torch.ones(T, T, dtype=torch.bool).triu(1))


def masked_window(T):
    """The definition, in O(T^2): the check's reference."""
    ones = torch.ones(T, T, dtype=torch.bool)
    return partial(plain_attend, hidden=ones.triu(1) | ones.tril(-WINDOW))


def with_previous(chunks):
    """Each chunk of keys after the one before it: (B, heads, T / WINDOW, WINDOW, dim) -> (..., 2 WINDOW, dim)."""
    before = torch.cat((torch.zeros_like(chunks[:, :, :1]), chunks[:, :, :-1]), 2)
    return torch.cat((before, chunks), 3)


def chunked_window(variant, T, heads):
    """In O(T WINDOW): a chunk of queries sees its own chunk of keys and the one before."""
    queries, keys = torch.arange(WINDOW)[:, None], torch.arange(2 * WINDOW)[None, :] - WINDOW
    hidden = ((keys > queries) | (keys <= queries - WINDOW)).repeat(T // WINDOW, 1, 1)
    hidden[0, :, :WINDOW] = True  # nothing comes before the first chunk
    hidden = hidden.repeat(heads, 1, 1)

    def attention(q, k, v):
        q, k, v = (t.unflatten(2, (-1, WINDOW)) for t in (q, k, v))
        q, k, v = (t.flatten(1, 2) for t in (q, with_previous(k), with_previous(v)))  # a chunk is one more head
        return ATTEND[variant](q, k, v, hidden).unflatten(1, (heads, -1)).flatten(2, 3)

    return attention


# ----------------------------------------------------------------------------------------------------------------- rows
def seconds_of(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(run, tokens):
    """As swarr bench measures."""
    once = seconds_of(run)  # warms up; counts only where more runs would take too long
    times = [once]
    if once <= PATIENCE * args.row_seconds:
        count = int(args.row_seconds / once)
        times = [seconds_of(run) for _ in range(max(MIN_REPETITIONS, min(MAX_REPETITIONS, count)))]
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
            return optimizer, implementation or "plain"
        except (RuntimeError, TypeError):
            continue
    raise RuntimeError("no AdamW works")


def train(shape, B, T, window, variant, dtype):
    attention = chunked_window(variant, T, shape["heads"]) if window else full_attention(variant, T)
    weights = init_weights(shape)
    optimizer, implementation = make_optimizer(list(weights.values()))
    tables = rope_tables(shape, T)
    ids, targets = (torch.randint(0, shape["vocab"], (B, T)) for _ in range(2))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext():
            logits = forward(shape, weights, ids, tables, attention)
        F.cross_entropy(logits.float().flatten(0, 1), targets.flatten()).backward()
        optimizer.step()

    return {"optimizer": implementation, **measure(step, B * T)}


def sample_tokens(decoder, logits, count):
    for _ in range(count):
        uniform = torch.rand_like(logits).clamp_min_(1e-20)
        tokens = (logits - torch.log(-torch.log(uniform))).argmax(-1)
        torch.log_softmax(logits, -1).gather(-1, tokens[:, None])  # a rollout records it
        logits = decoder.step(tokens)


@torch.inference_mode()  # up to a quarter faster than no_grad, and as simple
def decode(shape, B, variant, dtype):
    decoder = Decoder(shape, frozen_weights(shape, DTYPES[dtype]), B, PROMPT + NEW, variant)
    prompt = torch.randint(0, shape["vocab"], (B, PROMPT))
    for t in range(PROMPT):
        after_prompt = decoder.step(prompt[:, t])

    def run():
        decoder.position = PROMPT
        sample_tokens(decoder, after_prompt, NEW)

    return measure(run, B * NEW)


def product_gflops():
    """Of one large product in f32: tells a BLAS that is no peer."""
    M, N, K = 4096, 2048, 384
    x, w = torch.randn(M, K), torch.randn(N, K)
    return 2e-6 * M * N * K / measure(lambda: F.linear(x, w), M)["ms"]


@torch.inference_mode()
def check(shape, variant, dtype):
    """Differences are in logits. Only f32's are small enough to be held against a bound."""
    B, T = 3, 4 * WINDOW
    weights, tables = frozen_weights(shape, DTYPES[dtype]), rope_tables(shape, T, DTYPES[dtype])
    ids = torch.randint(0, shape["vocab"], (B, T))

    def logits_of(attention):
        return forward(shape, weights, ids, tables, attention).float()

    def logprobs_of(logits):
        return torch.log_softmax(logits, -1).gather(-1, ids[..., None])

    decoder = Decoder(shape, weights, B, T, variant)
    decoded = torch.stack([decoder.step(ids[:, t]) for t in range(T)], 1)
    full, plain_full = (logits_of(full_attention(v, T)) for v in (variant, "plain"))
    window, masked = logits_of(chunked_window(variant, T, shape["heads"])), logits_of(masked_window(T))
    pairs = {"decode": (decoded, plain_full), "full": (full, plain_full), "window": (window, masked)}
    differences = {f"{name}_difference": (a - b).abs().max().item() for name, (a, b) in pairs.items()}
    if dtype == "f32" and not all(d < 1e-4 for d in differences.values()):
        raise AssertionError(f"the check fails: {differences}")
    equal = logprobs_of(decoded) == logprobs_of(full)
    return {**differences, "bit_equal_logprobs": equal.float().mean().item()}


def all_rows():
    """(name, variant, dtype, what measures it)"""
    for (name, shape), dtype, variant in itertools.product(SHAPES.items(), DTYPES, VARIANTS):
        yield f"{name} check", variant, dtype, partial(check, shape, variant, dtype)
        for (B, T), window in itertools.product(((16, 256), (4, 1024)), (0, WINDOW)):
            row = f"{name} train B{B} T{T} " + (f"W{window}" if window else "full")
            yield row, variant, dtype, partial(train, shape, B, T, window, variant, dtype)
        for B in (1, 16, 64):
            yield f"{name} decode B{B} sampled full", variant, dtype, partial(decode, shape, B, variant, dtype)


def run_row(name, variant, dtype, run):
    row = {"name": name, "variant": variant, "dtype": dtype}
    try:
        row.update(run())
    except Exception as error:  # one row's failure is a result of this row only
        row["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main():
    rows = [run_row(*row) for row in all_rows() if args.rows in row[0]]
    results = {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "product_gflops": product_gflops(),
        "rows": rows,
    }
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


main()
