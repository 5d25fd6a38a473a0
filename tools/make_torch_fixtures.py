#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/torch_*.safetensors: small models with the log-probabilities and gradients that PyTorch computes.

    python3 tools/make_torch_fixtures.py        needs torch and safetensors; their versions are recorded in the files

The models are written out below in plain tensor operations and f64, straight from the formulas: attention is a masked
softmax over a T x T matrix, packing is a mask, and all derivatives are autograd's. A file holds

    weight.NAME       f64   every parameter, under its Hugging Face name
    tokens            i32   [N] the documents, one after another
    documents         i32   [documents + 1] where each begins, then N
    targets           i32   [N] the token whose log-probability is taken in each row
    dlogp             f64   [N] c_n of the loss  L = sum_n c_n log p(targets[n])
    logp              f64   [N]
    grad.NAME         f64   dL/d(weight.NAME)

and, under the metadata key "fixture", a JSON object: config (a config.json), the script's name and the versions.
tests/torch_fixture_test.cc compares the library with them.
"""

import json
import math
import pathlib

import safetensors
import safetensors.torch
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
F64 = torch.float64


def base_config(model_type, **changes):
    config = {
        "model_type": model_type, "num_hidden_layers": 2, "hidden_size": 10, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 12, "vocab_size": 13,
        "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 500.0, "tie_word_embeddings": False,
    }
    config.update(changes)
    return config


# name -> (config, window of each layer (0: full), sinks, document lengths)
FIXTURES = {
    "full": (base_config("llama"), [0, 0], 0, [17]),
    "window_sinks_qknorm_tied": (
        base_config("qwen3", tie_word_embeddings=True, use_sliding_window=True, sliding_window=3, max_window_layers=0,
                    swarr_attention_sinks=2, num_key_value_heads=1),
        [3, 3], 2, [12, 1, 7]),
    "hybrid_bias_packed": (
        base_config("qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=4,
                    layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        [4, 0, 4], 0, [6, 11, 3]),
    "window_one_head_each": (
        base_config("mistral", num_hidden_layers=1, num_key_value_heads=4, head_dim=6, sliding_window=5), [5], 0, [14, 9]),
}


def make_weights(config, generator):
    """Random weights; norms around 1, everything else around 0, large enough that no softmax is flat."""
    C, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    H, G, D = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

    def matrix(rows, columns):
        return torch.randn(rows, columns, dtype=F64, generator=generator) * (1.2 / math.sqrt(columns))

    def vector(size, center):
        return center + 0.3 * torch.randn(size, dtype=F64, generator=generator)

    w = {"model.embed_tokens.weight": torch.randn(V, C, dtype=F64, generator=generator)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        w[layer + "input_layernorm.weight"] = vector(C, 1.0)
        w[layer + "post_attention_layernorm.weight"] = vector(C, 1.0)
        for name, heads in (("q", H), ("k", G), ("v", G)):
            w[layer + f"self_attn.{name}_proj.weight"] = matrix(heads * D, C)
            if config["model_type"] == "qwen2":
                w[layer + f"self_attn.{name}_proj.bias"] = vector(heads * D, 0.0)
        if config["model_type"] == "qwen3":
            w[layer + "self_attn.q_norm.weight"] = vector(D, 1.0)
            w[layer + "self_attn.k_norm.weight"] = vector(D, 1.0)
        w[layer + "self_attn.o_proj.weight"] = matrix(C, H * D)
        w[layer + "mlp.gate_proj.weight"] = matrix(F, C)
        w[layer + "mlp.up_proj.weight"] = matrix(F, C)
        w[layer + "mlp.down_proj.weight"] = matrix(C, F)
    w["model.norm.weight"] = vector(C, 1.0)
    if not config["tie_word_embeddings"]:
        w["lm_head.weight"] = matrix(V, C)
    return w


def rms_norm(x, weight, eps):
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def rope(x, positions, theta):
    """x [N, heads, D]: the pair (x_i, x_{i + D/2}) is turned by positions * theta^(-2i/D)."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=F64) / half)
    angle = positions.to(F64)[:, None, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)


def mask_of(positions, document, window, sinks):
    """[N, N] true where the row's token sees the column's: same document, not later, within the window or a sink."""
    q, k = positions[:, None], positions[None, :]
    seen = (k <= q) & (document[:, None] == document[None, :])
    return seen if window == 0 else seen & ((q - k < window) | (k < sinks))


def attention(h, w, layer, config, positions, mask):
    H, G, D = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]

    def project(name, heads):
        y = h @ w[layer + f"{name}_proj.weight"].T
        if layer + f"{name}_proj.bias" in w:
            y = y + w[layer + f"{name}_proj.bias"]
        y = y.reshape(-1, heads, D)
        if layer + f"{name}_norm.weight" in w:
            y = rms_norm(y, w[layer + f"{name}_norm.weight"], config["rms_norm_eps"])
        return y

    q = rope(project("q", H), positions, config["rope_theta"])
    k = rope(project("k", G), positions, config["rope_theta"])
    v = project("v", G)
    heads = []
    for i in range(H):
        g = i // (H // G)  # consecutive query heads share a key head
        scores = (q[:, i] @ k[:, g].T / math.sqrt(D)).masked_fill(~mask, -math.inf)
        heads.append(torch.softmax(scores, dim=-1) @ v[:, g])
    return torch.cat(heads, dim=-1) @ w[layer + "o_proj.weight"].T


def logprobs(w, config, windows, sinks, tokens, positions, document, targets):
    eps = config["rms_norm_eps"]
    x = w["model.embed_tokens.weight"][tokens]
    for i, window in enumerate(windows):
        layer = f"model.layers.{i}."
        h = rms_norm(x, w[layer + "input_layernorm.weight"], eps)
        x = x + attention(h, w, layer + "self_attn.", config, positions, mask_of(positions, document, window, sinks))
        h = rms_norm(x, w[layer + "post_attention_layernorm.weight"], eps)
        gate, up = h @ w[layer + "mlp.gate_proj.weight"].T, h @ w[layer + "mlp.up_proj.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w[layer + "mlp.down_proj.weight"].T
    x = rms_norm(x, w["model.norm.weight"], eps)
    head = w["lm_head.weight"] if "lm_head.weight" in w else w["model.embed_tokens.weight"]
    return torch.log_softmax(x @ head.T, dim=-1).gather(1, targets[:, None]).squeeze(1)


def make_fixture(name, config, windows, sinks, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    w = {key: value.requires_grad_() for key, value in make_weights(config, generator).items()}
    count = sum(lengths)
    tokens, targets = torch.randint(config["vocab_size"], (2, count), generator=generator)
    positions = torch.cat([torch.arange(n) for n in lengths])
    document = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)])
    dlogp = torch.randn(count, dtype=F64, generator=generator)
    logp = logprobs(w, config, windows, sinks, tokens, positions, document, targets)
    (dlogp * logp).sum().backward()

    starts = torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)])
    tensors = {"tokens": tokens.int(), "documents": starts.int(), "targets": targets.int(), "dlogp": dlogp, "logp": logp.detach()}
    for key, value in w.items():
        tensors["weight." + key] = value.detach()
        tensors["grad." + key] = value.grad
    # One key: safetensors writes several in random order, and a file should have the same bytes each time.
    fixture = {
        "script": f"tools/{pathlib.Path(__file__).name}", "torch": torch.__version__,
        "safetensors": safetensors.__version__, "config": config,
    }
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(tensors, OUT / f"torch_{name}.safetensors", {"fixture": json.dumps(fixture)})


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for seed, (name, (config, windows, sinks, lengths)) in enumerate(FIXTURES.items()):
        make_fixture(name, config, windows, sinks, lengths, seed)


if __name__ == "__main__":
    main()
