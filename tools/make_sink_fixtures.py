#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/gpt_oss_attention.safetensors: attention blocks of transformers' gpt-oss, with their learned sinks.

    python3 tools/make_sink_fixtures.py    needs torch, transformers and safetensors; their versions are recorded

Each block is a GptOssAttention with random weights, run by its eager_attention_forward in f64 over one text; one block
attends in a window and one fully. The file holds, for block I (0: window, 1: full),

    I.NAME       f64   a parameter of the block: q_proj.weight, q_proj.bias, ..., sinks
    I.grad.NAME  f64   its gradient of sum(y * dy)
    I.x, I.dx    f64   [T, C] what goes in, and its gradient
    I.y, I.dy    f64   [T, C] what comes out, and the gradient that comes back

and, under the metadata key "fixture", a JSON object: versions, sizes, rope_theta and the window.
tests/gpt_oss_fixture_test.cc compares the library with them.
"""

import json
import pathlib

import safetensors
import safetensors.torch
import torch
import transformers
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
LENGTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, WINDOW, THETA = 24, 12, 4, 2, 6, 5, 500.0


def causal_mask(window):
    """What is added to the scores: 0 where a token is seen, a very negative number elsewhere."""
    i, j = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)[None]
    seen = (j <= i) & (i - j < window)
    return torch.zeros(LENGTH, LENGTH, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)


def run_block(config, index, generator):
    block = gpt_oss.GptOssAttention(config, index).double()
    for name, p in block.named_parameters():
        scale = 2.0 if name == "sinks" else 0.3 if p.dim() == 1 else 1.2 / p.shape[1] ** 0.5
        p.data.copy_(scale * torch.randn(p.shape, dtype=torch.float64, generator=generator))
    x, dy = torch.randn(2, LENGTH, HIDDEN, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    rotary = gpt_oss.GptOssRotaryEmbedding(config)
    y, _ = block(x[None], rotary(x[None], torch.arange(LENGTH)[None]),
                 causal_mask(block.sliding_window or LENGTH)[None, None])
    (y[0] * dy).sum().backward()
    tensors = {"x": x.detach(), "dx": x.grad, "y": y[0].detach(), "dy": dy}
    for name, p in block.named_parameters():
        tensors |= {name: p.detach(), f"grad.{name}": p.grad}
    return {f"{index}.{name}": t.contiguous() for name, t in tensors.items()}


def main():
    torch.set_num_threads(1)
    config = transformers.GptOssConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
        num_hidden_layers=2, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"],
        attention_bias=True, rope_parameters={"rope_type": "default", "rope_theta": THETA})
    config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(14)
    tensors = run_block(config, 0, generator) | run_block(config, 1, generator)
    # One key: safetensors writes several in random order, and a file should have the same bytes each time.
    fixture = {
        "script": f"tools/{pathlib.Path(__file__).name}", "transformers": transformers.__version__,
        "torch": torch.__version__, "safetensors": safetensors.__version__, "heads": HEADS, "kv_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "rope_theta": THETA, "windows": [WINDOW, 0],
    }
    safetensors.torch.save_file(tensors, OUT / "gpt_oss_attention.safetensors", {"fixture": json.dumps(fixture)})


if __name__ == "__main__":
    main()
