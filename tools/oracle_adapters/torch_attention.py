# SPDX-License-Identifier: Apache-2.0
"""torch's attention functions under masks made of the cases' positions and documents, judged by the oracle.

They know no learned sinks; scaled_dot_product_attention gives no log-sum-exp.
"""

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from oracle_client import Oracle


def sees(case):
    """Whether query i sees key j; i and j may be tensors of indices. The window counts the query's own token."""
    p, x = case.parameters, case.inputs

    def rule(i, j):
        q, k = x["q_position"][i], x["k_position"][j]
        near = (q - k < p["window"]) | (k < p["sinks"]) if p["window"] > 0 else True
        return (x["q_document"][i] == x["k_document"][j]) & (k >= 0) & (k <= q) & near

    return rule


def heads_first(t):
    return t.transpose(0, 1)[None]  # [T, H, D] -> [1, H, T, D]


def sdpa(dtype):
    oracle = Oracle("attention")
    for case in oracle:
        p, x = case.parameters, case.inputs
        if p["learned_sinks"]:
            case.skip()
            continue
        q, k, v = (x[name].to(dtype).requires_grad_() for name in "qkv")
        mask = sees(case)(torch.arange(p["queries"])[:, None], torch.arange(p["keys"])[None])
        out = scaled_dot_product_attention(*map(heads_first, (q, k, v)), attn_mask=mask, enable_gqa=True)
        out = out[0].transpose(0, 1)
        dq, dk, dv = torch.autograd.grad((out * x["d_out"].to(dtype)).sum(), (q, k, v))
        case.give(out=out, dq=dq, dk=dk, dv=dv)
    return oracle.check(outputs=["out", "dq", "dk", "dv"])


def sdpa_is_causal(dtype):
    """is_causal aligns the first query with the first key, which is wrong in a chunk."""
    oracle = Oracle("attention")
    for case in oracle:
        q, k, v = (case.inputs[name].to(dtype) for name in "qkv")
        out = scaled_dot_product_attention(*map(heads_first, (q, k, v)), is_causal=True, enable_gqa=True)
        case.give(out=out[0].transpose(0, 1))
    return oracle.check(cases=["full*", "chunk_full"])


def flex(dtype):
    """Forward alone: it has no backward on a processor."""
    oracle = Oracle("attention")
    for case in oracle:
        p, rule = case.parameters, sees(case)
        if p["learned_sinks"]:
            case.skip()
            continue
        mask = create_block_mask(lambda b, h, i, j: rule(i, j), None, None, p["queries"], p["keys"], device="cpu")
        q, k, v = (heads_first(case.inputs[name].to(dtype)) for name in "qkv")
        out, lse = flex_attention(q, k, v, block_mask=mask, enable_gqa=True, return_lse=True)
        case.give(out=out[0].transpose(0, 1), lse=lse[0].T)
    return oracle.check(outputs=["out", "lse"])
