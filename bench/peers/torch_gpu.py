#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of sitting.py: rows of `swarr bench --device cuda`, by plain PyTorch 2.

    bench/peers/torch_gpu.py --rows "A train B4 T8192 W512,check"

  A|B|C train B T full|W512      forward, backward and fused AdamW: f32 weights, bf16 inside; layers are compiled
  A|B|C decode B sampled full    a static cache, 256 new tokens after a prompt of 128 that is not timed; weights in
                                 bf16, layers compiled, a step is one CUDA graph: Gumbel-max and its log-probability
  attention [backward] B T H D   documents of one length; full or windowed
  check                          attention against its definition, and decoding's logits against a forward pass

It compiles the rows that it is given, and then measures those whose names it reads (jobs.py). Variants: "flash" is SDPA
with FlashAttention, "cudnn" SDPA with cuDNN, "flex" FlexAttention, "fa2" the FlashAttention-2 inside PyTorch with its
own window argument, and its backward again without atomics. Decoding: "bmm" is written out in products, "flex"
FlexAttention. `memory_bytes` is the most that tensors took. swarr counts the arithmetic of visible keys alone, two
products forward and five backward, and so does this.
"""
import argparse
import math
import sys
from functools import cache, partial

import torch
import torch._functorch.config
import torch.nn.functional as F
from jobs import Job, serve
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

parser = argparse.ArgumentParser(description="Speed of PyTorch on a GPU at rows of swarr bench.")
parser.add_argument("--rows", required=True, help="names of rows, between commas")
parser.add_argument("--row-seconds", type=float, default=1.0, help="how long a measurement is repeated")
args = parser.parse_args()

DEVICE, BF16 = "cuda", torch.bfloat16
SHAPES = {
    "A": dict(layers=30, hidden=576, heads=9, kv_heads=3, head_dim=64, ffn=1536, vocab=49152, qk_norm=False),
    "B": dict(layers=28, hidden=1024, heads=16, kv_heads=8, head_dim=128, ffn=3072, vocab=151936, qk_norm=True),
    "C": dict(layers=6, hidden=384, heads=6, kv_heads=6, head_dim=64, ffn=1024, vocab=256, qk_norm=False),
}
TRAIN = {"A": ((16, 2048), (4, 8192)), "B": ((8, 2048), (2, 8192)), "C": ((64, 2048), (16, 8192))}
ATTENTION = [(8, 8192, 16, 16, 64, w) for w in (0, 512, 128)] + [(8, 8192, 16, 16, 128, w) for w in (0, 512, 128)]
ATTENTION += [(2, 8192, 64, 8, 64, 1024)]
WINDOW, PROMPT, NEW = 512, 128, 256
INNER_STEPS = 3  # of training, between two waits: the processor may run ahead

torch.set_float32_matmul_precision("high")
torch.manual_seed(0)
compiled = partial(torch.compile, dynamic=False)
torch._functorch.config.donated_buffer = False  # attention's backward is run several times over one forward


# ------------------------------------------------------------------------------------------------------------ attention
def visible(T, window):
    return T * (T + 1) / 2 if not window else window * (window + 1) / 2 + (T - window) * window


def window_mask(T, window):
    def sees(batch, head, query, key):
        return (query >= key) & (query - key < window) if window else query >= key

    return create_block_mask(sees, None, None, T, T, device=DEVICE)


def attention_of(variant, T, window):
    """q (B, heads, T, dim), k and v (B, kv_heads, T, dim) -> (B, heads, T, dim)."""
    if variant in ("flash", "cudnn"):
        backend = SDPBackend.FLASH_ATTENTION if variant == "flash" else SDPBackend.CUDNN_ATTENTION

        def sdpa(q, k, v):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])

        return sdpa
    if variant == "flex":
        mask = window_mask(T, window)
        return lambda q, k, v: flex_attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])

    def fa2(q, k, v):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        left = window - 1 if window else -1
        out = torch.ops.aten._flash_attention_forward(
            q, k, v, None, None, T, T, 0.0, True, False, window_size_left=left, window_size_right=0
        )
        return out[0].transpose(1, 2)

    return fa2


def defined_attention(q, k, v, window):
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1).double() for t in (k, v))
    T = q.shape[2]
    distance = torch.arange(T, device=DEVICE)[:, None] - torch.arange(T, device=DEVICE)[None, :]
    hidden = (distance < 0) | (distance >= window) if window else distance < 0
    scores = q.double() @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ v


def attention_operands(B, T, H, G, D):
    return [torch.randn(B, T, h, D, device=DEVICE, dtype=BF16).transpose(1, 2).requires_grad_() for h in (H, G, G)]


def attention(size, variant, backward):
    B, T, H, G, D, window = size
    q, k, v = attention_operands(B, T, H, G, D)
    attend = attention_of(variant, T, window)
    attend = compiled(attend) if variant == "flex" else attend
    product = 2 * B * H * D * visible(T, window)
    if not backward:
        return Job(torch.no_grad()(lambda: attend(q, k, v)), "gflops", 2 * product)
    out = attend(q, k, v)
    dout = torch.randn_like(out)
    run = partial(torch.autograd.grad, out, (q, k, v), dout, retain_graph=True)
    return Job(run, "gflops", 5 * product)


def deterministic(prepare):
    job = prepare()
    run = job.run

    def run_so():
        torch.use_deterministic_algorithms(True)
        run()
        torch.use_deterministic_algorithms(False)

    job.run = run_so
    return job


# ------------------------------------------------------------------------------------------------------------ the model
def init_weights(shape, dtype, trained):
    def normal(rows, columns, std=0.02):
        return (torch.randn(rows, columns, device=DEVICE) * std).to(dtype).requires_grad_(trained)

    def ones(count):
        return torch.ones(count, device=DEVICE, dtype=dtype).requires_grad_(trained)

    C, D, ffn, into_residual = shape["hidden"], shape["head_dim"], shape["ffn"], 0.02 / math.sqrt(2 * shape["layers"])
    layers = []
    for _ in range(shape["layers"]):
        layer = dict(attention_norm=ones(C), qkv=normal((shape["heads"] + 2 * shape["kv_heads"]) * D, C))
        layer.update(out=normal(C, shape["heads"] * D, into_residual), ffn_norm=ones(C), gate_up=normal(2 * ffn, C))
        layer.update(down=normal(C, ffn, into_residual))
        if shape["qk_norm"]:
            layer.update(q_norm=ones(D), k_norm=ones(D))
        layers.append(layer)
    return dict(embedding=normal(shape["vocab"], C), norm=ones(C), layers=layers)


def all_weights(weights):
    return [weights["embedding"], weights["norm"]] + [t for layer in weights["layers"] for t in layer.values()]


def rope_tables(shape, length):
    D = shape["head_dim"]
    frequencies = 10000.0 ** (-torch.arange(0, D, 2, device=DEVICE).float() / D)
    angles = torch.outer(torch.arange(length, device=DEVICE).float(), frequencies)
    return angles.cos(), angles.sin()


def rms_norm(x, weight):
    y = x.float()
    return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.float()).to(x.dtype)


def rope(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def linear(x, w):
    return F.linear(x, w.to(x.dtype))


def queries_keys_values(shape, layer, x, cos, sin):
    """x (..., C) -> three of (..., heads, dim), normed and turned."""
    heads, kv, D = shape["heads"], shape["kv_heads"], shape["head_dim"]
    y = linear(rms_norm(x, layer["attention_norm"]), layer["qkv"])
    q, k, v = (t.unflatten(-1, (-1, D)) for t in y.split((heads * D, kv * D, kv * D), -1))
    if shape["qk_norm"]:
        q, k = rms_norm(q, layer["q_norm"]), rms_norm(k, layer["k_norm"])
    return rope(q, cos, sin), rope(k, cos, sin), v


def feed_forward(layer, x):
    gate, up = linear(rms_norm(x, layer["ffn_norm"]), layer["gate_up"]).chunk(2, -1)
    return x + linear(F.silu(gate) * up, layer["down"])


def make_block(shape, attend):
    def block(x, cos, sin, layer):
        q, k, v = queries_keys_values(shape, layer, x, cos[: x.shape[1], None], sin[: x.shape[1], None])
        heads = attend(*(t.transpose(1, 2) for t in (q, k, v)))
        return feed_forward(layer, x + linear(heads.transpose(1, 2).flatten(2), layer["out"]))

    return block


def loss_of(x, norm, embedding, targets):
    return F.cross_entropy(linear(rms_norm(x, norm), embedding).float().flatten(0, 1), targets.flatten())


def train(shape, B, T, window, variant):
    weights = init_weights(shape, torch.float32, trained=True)
    optimizer = torch.optim.AdamW(all_weights(weights), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tables = rope_tables(shape, T)
    block, loss = compiled(make_block(shape, attention_of(variant, T, window))), compiled(loss_of)
    ids, targets = (torch.randint(0, shape["vocab"], (B, T), device=DEVICE) for _ in range(2))

    def steps():
        for _ in range(INNER_STEPS):
            optimizer.zero_grad(set_to_none=True)
            x = F.embedding(ids, weights["embedding"]).to(BF16)
            for layer in weights["layers"]:
                x = block(x, *tables, layer)
            loss(x, weights["norm"], weights["embedding"], targets).backward()
            optimizer.step()

    return Job(steps, "tokens_per_second", INNER_STEPS * B * T, INNER_STEPS)


# ------------------------------------------------------------------------------------------------------------- decoding
def new_cache(shape, B, length):
    """Keys and values (B, kv_heads, length, dim) of each layer."""
    size = (B, shape["kv_heads"], length, shape["head_dim"])
    return [[torch.zeros(size, device=DEVICE, dtype=BF16) for _ in range(2)] for _ in range(shape["layers"])]


class Decoder:
    """One token per step for each sequence, all at the same position, over a static cache."""

    def __init__(self, shape, weights, cache, variant):
        self.shape, self.weights, self.cache, self.variant = shape, weights, cache, variant
        B, _, length, _ = cache[0][0].shape
        self.tables = rope_tables(shape, length)
        self.position = torch.zeros(1, device=DEVICE, dtype=torch.long)
        self.tokens = torch.zeros(B, device=DEVICE, dtype=torch.long)
        self.logprobs = torch.zeros(B, length + 1, device=DEVICE)
        self.blocks, self.sample = {}, compiled(self.sample_tokens)
        self.head = compiled(lambda x: linear(rms_norm(x, weights["norm"]), weights["embedding"]))

    def attend(self, q, keys, values, position):
        B, H, D = q.shape
        if self.variant == "flex":
            past = lambda score, b, h, i, key: torch.where(key <= position[0], score, -math.inf)  # noqa: E731
            return flex_attention(q[:, :, None], keys, values, score_mod=past, enable_gqa=H != keys.shape[1]).view(B, H, D)
        seen = torch.arange(keys.shape[2], device=DEVICE) <= position
        scores = (q.view(B, keys.shape[1], -1, D) @ keys.transpose(-1, -2)).float() * D**-0.5
        return (torch.softmax(scores.masked_fill(~seen, -math.inf), -1).to(BF16) @ values).view(B, H, D)

    def block(self, reach):
        """Reads the first `reach` positions of the cache."""

        def block(x, cos, sin, keys, values, position, layer):
            cos, sin = (t.index_select(0, position) for t in (cos, sin))
            q, k, v = queries_keys_values(self.shape, layer, x, cos, sin)
            keys.index_copy_(2, position, k.unsqueeze(2))
            values.index_copy_(2, position, v.unsqueeze(2))
            heads = self.attend(q, keys[:, :, :reach], values[:, :, :reach], position)
            return feed_forward(layer, x + linear(heads.flatten(1), layer["out"]))

        if reach not in self.blocks:
            self.blocks[reach] = compiled(block)
        return self.blocks[reach]

    @staticmethod
    def sample_tokens(logits):
        z = logits.float()
        tokens = (z - torch.log(-torch.log(torch.rand_like(z).clamp_min_(1e-20)))).argmax(-1)
        return tokens, z.gather(-1, tokens[:, None])[:, 0] - torch.logsumexp(z, -1)

    def logits(self, reach):
        x = F.embedding(self.tokens, self.weights["embedding"])
        for layer, (keys, values) in zip(self.weights["layers"], self.cache):
            x = self.block(reach)(x, *self.tables, keys, values, self.position, layer)
        return self.head(x)

    def step(self, reach):
        tokens, logprobs = self.sample(self.logits(reach))
        self.logprobs.index_copy_(1, self.position + 1, logprobs[:, None])
        self.tokens.copy_(tokens)
        self.position.add_(1)

    def capture(self, reach):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.position.fill_(reach - 1)
                self.step(reach)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step(reach)
        return graph


@cache
def decoding_memory(name, B):
    """Weights and a cache, which variants share: what is computed does not depend on what an earlier run left there."""
    shape = SHAPES[name]
    return shape, init_weights(shape, BF16, trained=False), new_cache(shape, B, PROMPT + NEW)


@torch.no_grad()
def decode(name, B, variant):
    decoder = Decoder(*decoding_memory(name, B), variant)
    graphs = {reach: decoder.capture(reach) for reach in range(2 * PROMPT, PROMPT + NEW + 1, PROMPT)}

    def run():
        decoder.position.fill_(PROMPT - 1)
        for position in range(PROMPT - 1, PROMPT + NEW - 1):
            graphs[min(reach for reach in graphs if position < reach)].replay()

    return Job(run, "tokens_per_second", B * NEW)


# ----------------------------------------------------------------------------------------------------------------- rows
@torch.no_grad()
def check():
    """Relative differences, in bf16: below 2%."""
    q, k, v = attention_operands(2, 512, 4, 2, 64)
    differences = {}

    def compare(name, got, wanted):
        differences[name] = ((got - wanted).double().norm() / wanted.double().norm()).item()

    for variant, window in (("flash", 0), ("cudnn", 0), ("flex", 0), ("flex", 128), ("fa2", 128)):
        attend = attention_of(variant, 512, window)
        got = (compiled(attend) if variant == "flex" else attend)(q, k, v)
        compare(f"{variant} W{window}", got, defined_attention(q, k, v, window))
    shape = SHAPES["C"]
    weights = init_weights(shape, BF16, trained=False)
    weights["embedding"].mul_(4)  # logits less flat than those of an untrained head
    ids = torch.randint(0, shape["vocab"], (3, 64), device=DEVICE)
    block, x = make_block(shape, attention_of("flash", 64, 0)), F.embedding(ids, weights["embedding"])
    for layer in weights["layers"]:
        x = block(x, *rope_tables(shape, 64), layer)
    for variant in ("bmm", "flex"):
        decoder = Decoder(shape, weights, new_cache(shape, 3, 64), variant)
        for t in range(64):
            decoder.tokens.copy_(ids[:, t])
            decoder.position.fill_(t)
            logits = decoder.logits(64)
        compare(f"decode {variant}", logits, linear(rms_norm(x[:, -1], weights["norm"]), weights["embedding"]))
    if not all(d < 0.02 for d in differences.values()):
        raise AssertionError(f"the check fails: {differences}")
    return differences


def all_rows():
    """(name, variant, what prepares it)"""
    yield "check", "all", check
    for name, shape in SHAPES.items():
        for B, T in TRAIN[name]:
            yield f"{name} train B{B} T{T} full", "flash", partial(train, shape, B, T, 0, "flash")
            yield f"{name} train B{B} T{T} W{WINDOW}", "flex", partial(train, shape, B, T, WINDOW, "flex")
        for B in (1, 64, 256):
            for variant in ("bmm", "flex"):
                yield f"{name} decode B{B} sampled full", variant, partial(decode, name, B, variant)
    for size in ATTENTION:
        B, T, H, G, D, window = size
        after = f" B{B} T{T} H{H}/{G} D{D} " + (f"W{window}" if window else "full")
        for variant in ("flex", "fa2") if window else ("flash", "cudnn", "flex"):
            yield "attention" + after, variant, partial(attention, size, variant, False)
            backward = partial(attention, size, variant, True)
            yield "attention backward" + after, variant, backward
            if variant == "fa2":
                yield "attention backward" + after, "fa2, deterministic", partial(deterministic, backward)


def main():
    wanted = args.rows.split(",")
    serve([row for row in all_rows() if row[0] in wanted], args.row_seconds, {"python": sys.version.split()[0]})


main()
