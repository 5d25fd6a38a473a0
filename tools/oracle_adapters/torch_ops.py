# SPDX-License-Identifier: Apache-2.0
"""torch's functions for the ops of a decoder, judged by the oracle. The rotary embedding is in transformers_ops.py."""

import torch
import torch.nn.functional as F

from oracle_client import Oracle


def linear(p, x):
    y = F.linear(x["x"], x["w"], x.get("b"))
    return {"y": y + x["residual"] if "residual" in x else y}


def embedding(p, x):
    return {"y": F.embedding(x["ids"], x["w"])}


def embedding_with_padding(p, x):
    """As models have it whose pad_token_id is 0."""
    return {"y": F.embedding(x["ids"], x["w"], padding_idx=0)}


def rmsnorm(p, x):
    return {"y": F.rms_norm(x["x"], x["x"].shape[-1:], x["w"], p["eps"])}


def swiglu(p, x):
    return {"y": F.silu(x["gate"]) * x["up"]}


def logprob(p, x):
    z = F.linear(x["x"], x["w"]) / p["temperature"]
    return {"logp": -F.cross_entropy(z, x["targets"].long(), reduction="none"), "lse": torch.logsumexp(z, dim=-1),
            "entropy": torch.distributions.Categorical(logits=z).entropy()}


def judge(functions, dtype):
    """`functions` by the names of families; of each parameters and inputs to values by name."""
    oracle = Oracle("ops")
    for case in oracle:
        if case.family not in functions:
            case.skip()
            continue
        x = {name: t.to(dtype).requires_grad_() if t.is_floating_point() else t for name, t in case.inputs.items()}
        values = functions[case.family](case.parameters, x)
        loss = sum((values[name] * x[f"d_{name}"]).sum() for name in values if f"d_{name}" in x)
        variables = [name for name in x if f"d{name}" in case.outputs]
        gradients = torch.autograd.grad(loss, [x[name] for name in variables])
        case.give(**values, **{f"d{name}": gradient for name, gradient in zip(variables, gradients)})
    return oracle.check()


def ops(dtype):
    return judge({f.__name__: f for f in (linear, embedding, rmsnorm, swiglu, logprob)}, dtype)


def padding_idx(dtype):
    return judge({"embedding": embedding_with_padding}, dtype)
