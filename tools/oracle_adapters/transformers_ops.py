# SPDX-License-Identifier: Apache-2.0
"""Norms, rotary embeddings and an embedding of transformers, judged by the oracle."""

import torch
from transformers import CohereConfig, LlamaConfig
from transformers.models.cohere import modeling_cohere
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding
from transformers.models.llama import modeling_llama
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

import torch_ops


def with_weight(module, x, weight):
    """The module's result with a given weight."""
    return torch.func.functional_call(module, {"weight": weight}, x)


def norm(kind):
    return {"rmsnorm": lambda p, x: {"y": with_weight(kind(p["channels"], eps=p["eps"]), x["x"], x["w"])}}


def rotary(model, kind, config):
    """A model's rotary module and its apply_rotary_pos_emb: x [T, H, D] in the place of queries and of keys."""

    def rope(p, x):
        settings = {"rope_type": "default", "rope_theta": p["theta"]}
        if "factor" in p:
            settings |= {"rope_type": "llama3", "original_max_position_embeddings": p["original_positions"]}
            settings |= {name: p[name] for name in ("factor", "low_freq_factor", "high_freq_factor")}
        module = kind(config(head_dim=p["head_dim"], rope_parameters=settings, hidden_size=p["head_dim"],
                             num_attention_heads=1, num_key_value_heads=1))
        cos, sin = module(x["x"], x["positions"][None])
        heads = x["x"].transpose(0, 1)[None]
        return {"y": model.apply_rotary_pos_emb(heads, heads, cos, sin)[0][0].transpose(0, 1)}

    return {"rope": rope}


def scaled_embedding(p, x):
    module = Gemma3TextScaledWordEmbedding(p["vocab"], p["channels"], None, p["channels"] ** 0.5)
    return {"y": with_weight(module, x["ids"], x["w"])}


def llama_norm(dtype):
    return torch_ops.judge(norm(modeling_llama.LlamaRMSNorm), dtype)


def qwen3_norm(dtype):
    return torch_ops.judge(norm(Qwen3RMSNorm), dtype)


def gemma_norm(dtype):
    return torch_ops.judge(norm(GemmaRMSNorm), dtype)


def llama_rotary(dtype):
    return torch_ops.judge(rotary(modeling_llama, modeling_llama.LlamaRotaryEmbedding, LlamaConfig), dtype)


def cohere_rotary(dtype):
    return torch_ops.judge(rotary(modeling_cohere, modeling_cohere.CohereRotaryEmbedding, CohereConfig), dtype)


def gemma_embedding(dtype):
    return torch_ops.judge({"embedding": scaled_embedding}, dtype)
