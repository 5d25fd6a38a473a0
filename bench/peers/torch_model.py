# SPDX-License-Identifier: Apache-2.0
"""The models of `swarr bench` in plain PyTorch: a forward pass, a decoder, and attention in two variants: "plain" is
written out in tensor operations, "sdpa" uses scaled_dot_product_attention, which torch 1.13 lacks.
"""
import math
from functools import partial

import torch
import torch.nn.functional as F

VARIANTS = ["plain"] + (["sdpa"] if hasattr(F, "scaled_dot_product_attention") else [])
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {
    "C": dict(layers=6, hidden=384, heads=6, ffn=1024, vocab=256),
    "D": dict(layers=4, hidden=128, heads=4, ffn=352, vocab=64),
}
WINDOW = 64


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
