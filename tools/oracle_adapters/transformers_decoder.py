# SPDX-License-Identifier: Apache-2.0
"""Small decoders of transformers with the cases' weights, judged by the oracle. They have no sinks that are keys.

Llama stands for full attention, Mistral for one window in all layers, Qwen2 for biases and for windows in some layers,
and Qwen3 for normed queries and keys.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from oracle_client import Oracle

SAME_NAMES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
              "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps")


def model_of(case, dtype, implementation):
    """The library's model, or None where it has none like this."""
    p = case.parameters
    windows = [p[f"window_{layer}"] for layer in range(p["num_hidden_layers"])]
    widths = set(windows) - {0}
    if len(widths) > 1 or any(p[f"sinks_{layer}"] for layer in range(len(windows))):
        return None
    settings = {name: p[name] for name in SAME_NAMES} | {
        "rope_parameters": {"rope_type": "default", "rope_theta": p["rope_theta"]},
        "attn_implementation": implementation,
        "tie_word_embeddings": bool(p["tie_word_embeddings"]), "pad_token_id": None,
        "eos_token_id": max(p["eos_token_id"], 0), "sliding_window": max(widths, default=None)}
    by_layer = {"use_sliding_window": True,
                "layer_types": ["sliding_attention" if window else "full_attention" for window in windows]}
    if p["qk_norm"]:
        model = Qwen3ForCausalLM(Qwen3Config(**settings, **by_layer, attention_bias=bool(p["qkv_bias"])))
    elif p["qkv_bias"] or len(set(windows)) > 1:
        model = Qwen2ForCausalLM(Qwen2Config(**settings, **by_layer))
    elif widths:
        model = MistralForCausalLM(MistralConfig(**settings))
    else:
        model = LlamaForCausalLM(LlamaConfig(**settings))
    model = model.to(dtype).eval()
    unknown = model.load_state_dict(case.inputs, strict=False).missing_keys
    for name in set(unknown) - {"lm_head.weight"}:  # biases that the case lacks
        torch.nn.init.zeros_(model.get_parameter(name))
    return model


def judge(implementation, dtype, cases=(), always_mask=False):
    oracle = Oracle("model")
    for case in oracle:
        model = model_of(case, dtype, implementation)
        if not model:
            case.skip()
            continue
        x = case.inputs
        positions = torch.cat([torch.arange(n) for n in x["document"].unique_consecutive(return_counts=True)[1]])
        mask = torch.ones_like(positions)[None] if always_mask else None
        logits = model(input_ids=x["tokens"][None].long(), position_ids=positions[None], attention_mask=mask,
                       use_cache=False).logits[0]
        logp = -torch.nn.functional.cross_entropy(logits, x["targets"].long(), reduction="none")
        (logp * x["d_logp"].to(dtype)).sum().backward()
        gradients = {f"grad.{name}": weight.grad for name, weight in model.named_parameters()}
        case.give(logits=logits, logp=logp, **{n: g for n, g in gradients.items() if n in case.outputs})
    return oracle.check(cases)


def decoder_eager(dtype):
    return judge("eager", dtype)


def decoder_sdpa(dtype):
    return judge("sdpa", dtype)


def decoder_packed_with_mask(dtype):
    """A mask keeps the library from telling documents in a row apart by their positions."""
    return judge("sdpa", dtype, cases=["packed"], always_mask=True)
