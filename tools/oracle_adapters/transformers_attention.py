# SPDX-License-Identifier: Apache-2.0
"""Attention functions of transformers with the library's own masks and cache, judged by the oracle.

The library has no sinks that are keys, gives no log-sum-exp, and takes keys in the order of their positions.
"""

from types import SimpleNamespace

import torch
from transformers import DynamicCache, MistralConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.mistral import modeling_mistral

from oracle_client import Oracle


def attend(function, implementation, case, tensors, always_mask=False, by_token=False):
    """The output [Tq, H, D] of an attention function; documents with padding are a batch, others stand in one row. The
    library tells documents in a row apart by positions that start anew, but only where no mask is given. What is before
    the queries goes through its cache, and so does everything with `by_token`: one query at a time."""
    p, is_token = case.parameters, case.inputs["q_position"] >= 0
    batch = 1 if is_token.all() else p["documents"]
    q, k, v = (t.view(batch, -1, *t.shape[1:]).transpose(1, 2) for t in tensors[:3])  # [B, heads, T, D]
    config = MistralConfig(num_hidden_layers=1, sliding_window=p["window"] or None, attn_implementation=implementation)
    module = SimpleNamespace(num_key_value_groups=p["heads_per_kv_head"], is_causal=True, training=False,
                             sinks=tensors[-1])
    make_mask = create_sliding_window_causal_mask if p["window"] > 0 else create_causal_mask
    past, step = k.shape[2] - q.shape[2], 1 if by_token else q.shape[2]
    cache = DynamicCache(config=config) if past > 0 or by_token else None
    if past > 0:
        cache.update(k[:, :, :past], v[:, :, :past], 0)
    outputs = []
    for begin in range(0, q.shape[2], step):
        queries, keys = slice(begin, begin + step), slice(past + begin, past + begin + step)
        mask = make_mask(config, q.new_zeros(batch, step, 1), cache=cache,
                         attention_mask=is_token.view(batch, -1)[:, :keys.stop] if batch > 1 or always_mask else None,
                         position_ids=case.inputs["q_position"][None, queries] if batch == 1 else None)
        k_seen, v_seen = k[:, :, keys], v[:, :, keys]
        if cache:
            k_seen, v_seen = cache.update(k_seen, v_seen, 0)
        outputs.append(function(module, q[:, :, queries], k_seen, v_seen, mask, scaling=p["head_dim"] ** -0.5)[0])
    return torch.cat(outputs, dim=1).flatten(0, 1)


def last_keys_ask(case):
    """Whether queries are those of the last keys, and what is before them is a text from its first token on."""
    x, past = case.inputs, case.parameters["keys"] - case.parameters["queries"]
    same = all(torch.equal(x[f"q_{what}"], x[f"k_{what}"][past:]) for what in ("position", "document"))
    return same and torch.equal(x["k_position"][:past], torch.arange(past, dtype=torch.int32))


def judge(function, implementation, dtype, learned_sinks=0, cases=(), skip=(), drop_padding=True, **options):
    oracle = Oracle("attention")
    for case in oracle:
        p, x = case.parameters, case.inputs
        if (p["window"] > 0 and p["sinks"] > 0) or p["learned_sinks"] != learned_sinks or not last_keys_ask(case):
            case.skip()
        else:
            variables = [x[name].to(dtype).requires_grad_() for name in ("q", "k", "v", "sink_logits") if name in x]
            out = attend(function, implementation, case, variables, **options)
            if drop_padding:  # as the mask of a loss does
                out = out * (x["q_position"] >= 0)[:, None, None]
            gradients = torch.autograd.grad((out * x["d_out"].to(dtype)).sum(), variables)
            case.give(out=out, **dict(zip(("dq", "dk", "dv", "dsink_logits"), gradients)))
    return oracle.check(cases, skip, outputs=["out", "dq", "dk", "dv"] + ["dsink_logits"] * learned_sinks)


def mistral_eager(dtype):
    return judge(modeling_mistral.eager_attention_forward, "eager", dtype, skip=["*padding*"])


def mistral_eager_padding(dtype):
    return judge(modeling_mistral.eager_attention_forward, "eager", dtype, cases=["*padding*"])


def mistral_sdpa(dtype):
    return judge(sdpa_attention_forward, "sdpa", dtype)


def mistral_sdpa_padding_kept(dtype):
    return judge(sdpa_attention_forward, "sdpa", dtype, cases=["*padding*"], drop_padding=False)


def mistral_sdpa_packed_with_mask(dtype):
    return judge(sdpa_attention_forward, "sdpa", dtype, cases=["packed*"], always_mask=True)


def mistral_sdpa_by_token(dtype):
    return judge(sdpa_attention_forward, "sdpa", dtype, skip=["packed*", "window_1"], by_token=True)


def mistral_sdpa_by_token_window_1(dtype):
    return judge(sdpa_attention_forward, "sdpa", dtype, cases=["window_1"], by_token=True)


def gpt_oss_eager(dtype):
    return judge(modeling_gpt_oss.eager_attention_forward, "eager", dtype, learned_sinks=1)
